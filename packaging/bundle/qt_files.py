"""Which of PySide6's files the window uses: the modules it imports, and the plugins those may load.

Owns: that choice. PyInstaller's own takes every plugin, and with them QML, PDF, and databases. Used by seamount.spec.
"""

from pathlib import PurePosixPath

MODULES = ("QtCore", "QtGui", "QtWidgets", "QtNetwork", "QtSvg")
"""What the window imports (tests/packaging/bundle/test_qt_files.py compares)."""
LIBRARIES = ("Core", "Gui", "Widgets", "Network", "Svg", "DBus", "OpenGL", "XcbQpa", "WaylandClient")
"""Those, and what they and the plugins are linked with."""
PLUGINS = {
    "iconengines": ("qsvgicon",),
    "imageformats": ("qgif", "qico", "qjpeg", "qsvg", "qwebp"),
    "platforminputcontexts": ("composeplatforminputcontextplugin", "ibusplatforminputcontextplugin"),
    "platforms": ("qcocoa", "qminimal", "qoffscreen", "qwayland", "qwindows", "qxcb"),
    "platformthemes": ("qgtk3", "qxdgdesktopportal"),
    "styles": ("qmacstyle", "qmodernwindowsstyle", "qwindowsvistastyle"),
    "wayland-decoration-client": ("adwaita", "bradient"),
    "wayland-graphics-integration-client": ("qt-plugin-wayland-egl",),
    "wayland-shell-integration": ("xdg-shell",),
    "xcbglintegrations": ("qxcb-egl-integration", "qxcb-glx-integration"),
}


def wanted(place: str) -> bool:
    """Whether a file of the bundle is wanted, as far as it is Qt's; any other is."""
    path = PurePosixPath(place.replace("\\", "/"))
    if path.parts[0] != "PySide6":
        # A link at the top to a library that lies where Qt keeps it.
        return not path.name.startswith(("libQt6", "libpyside6")) or _library_wanted(path.name)
    folder, name = path.parent.name, path.name
    if "translations" in path.parts or "qml" in path.parts:
        return False  # the window speaks for itself; it has no QML
    if "plugins" in path.parts:
        return name.removeprefix("lib").partition(".")[0] in PLUGINS.get(folder, ())
    if name.startswith(("libQt6", "Qt6", "libpyside6", "pyside6")) or (
        name.startswith("Qt") and folder == "lib"
    ):
        return _library_wanted(name)
    if name.startswith("Qt") and path.suffix in (".so", ".pyd"):
        return name.partition(".")[0] in MODULES
    return True


def _library_wanted(name: str) -> bool:
    stem = name.removeprefix("lib").partition(".")[0]
    if stem.startswith("pyside6"):
        return stem == "pyside6"
    return stem.removeprefix("Qt6").removeprefix("Qt") in LIBRARIES
