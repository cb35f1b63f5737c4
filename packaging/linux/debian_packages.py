"""Which Debian and Ubuntu packages have the libraries that the bundle expects of the system.

Owns: that table, and the Depends and Recommends that follow from what the bundle's files are linked with. A library
that is not in it fails the build: either it belongs here, or into the bundle.
"""

from pathlib import Path

from shared_libraries import LibraryError, outside

LIBC = "libc6 (>= 2.35)"
NEWEST = {"GLIBC": (2, 35), "GLIBCXX": (3, 4, 30), "CXXABI": (1, 3, 13)}
"""Of Ubuntu 22.04, the oldest system that the package is for (Debian 12 has newer ones)."""

# Where Ubuntu 24.04 renamed a package, its new name provides the old one; both are named for software centres.
PACKAGES = {
    **dict.fromkeys(
        (
            *(
                "ld-linux-x86-64.so.2",
                "libc.so.6",
                "libm.so.6",
                "libdl.so.2",
                "libpthread.so.0",
                "librt.so.1",
            ),
            *("libresolv.so.2", "libutil.so.1"),
        ),
        LIBC,
    ),
    "libEGL.so.1": "libegl1",
    "libGL.so.1": "libgl1",
    "libX11-xcb.so.1": "libx11-xcb1",
    "libX11.so.6": "libx11-6",
    "libbrotlicommon.so.1": "libbrotli1",
    "libbrotlidec.so.1": "libbrotli1",
    "libcrypt.so.1": "libcrypt1",
    "libdbus-1.so.3": "libdbus-1-3",
    "libexpat.so.1": "libexpat1",
    "libfontconfig.so.1": "libfontconfig1",
    "libfreetype.so.6": "libfreetype6",
    "libgcc_s.so.1": "libgcc-s1",
    **dict.fromkeys(
        ("libglib-2.0.so.0", "libgio-2.0.so.0", "libgobject-2.0.so.0", "libgthread-2.0.so.0"),
        "libglib2.0-0 | libglib2.0-0t64",
    ),
    "libgssapi_krb5.so.2": "libgssapi-krb5-2",
    "libstdc++.so.6": "libstdc++6 (>= 12)",
    "libwayland-client.so.0": "libwayland-client0",
    "libwayland-cursor.so.0": "libwayland-cursor0",
    "libwayland-egl.so.1": "libwayland-egl1",
    "libxcb-glx.so.0": "libxcb-glx0",
    "libxcb-randr.so.0": "libxcb-randr0",
    "libxcb-render.so.0": "libxcb-render0",
    "libxcb-shape.so.0": "libxcb-shape0",
    "libxcb-shm.so.0": "libxcb-shm0",
    "libxcb-sync.so.1": "libxcb-sync1",
    "libxcb-xfixes.so.0": "libxcb-xfixes0",
    "libxcb-xkb.so.1": "libxcb-xkb1",
    "libxcb.so.1": "libxcb1",
    "libxkbcommon-x11.so.0": "libxkbcommon-x11-0",
    "libxkbcommon.so.0": "libxkbcommon0",
    "libz.so.1": "zlib1g",
    "libzstd.so.1": "libzstd1",
}

OPTIONAL = {
    "libqgtk3.so": (),  # the look of GTK's dialogs; where GTK is missing, Qt's own are shown
    "libggml-vulkan.so": ("libvulkan1",),
}
"""Files that are loaded only where what they are linked with is there: the packages that would bring it."""

# A text needs a font; pictures of keys and other symbols are drawn by the program.
ALSO_RECOMMENDED = ("fonts-dejavu-core | fonts-noto-core | fonts-liberation", "xdg-utils", "seamount-starter")
SUGGESTED = ("mesa-vulkan-drivers", "nvidia-driver")


def dependencies(bundle: Path) -> tuple[list[str], list[str]]:
    """(Depends, Recommends) of a package with this bundle. Raises LibraryError for a library nobody gives."""
    depends, recommends = {LIBC}, set[str]()
    for library, users in outside(bundle).items():
        if all(path.name in OPTIONAL for path in users):
            recommends.update(package for path in users for package in OPTIONAL[path.name])
        elif library in PACKAGES:
            depends.add(PACKAGES[library])
        else:
            raise LibraryError(
                f"{users[0].relative_to(bundle)} is linked with {library}, which is neither in the bundle nor known "
                "to be in a package: add it to debian_packages.py or to system_libraries.py"
            )
    return sorted(depends), [*sorted(recommends), *ALSO_RECOMMENDED]
