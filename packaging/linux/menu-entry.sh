#!/bin/sh
# Seamount in your applications menu, from this folder; nothing needs a password.
#
#     ./menu-entry.sh add       a menu entry, the icon, .gguf files and seamount: links
#     ./menu-entry.sh remove    takes all of that away again
#
# The entry names this folder: add it again after moving the folder.
set -eu

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd -P)
data=${XDG_DATA_HOME:-${HOME:?Seamount needs to know your home folder: set HOME}/.local/share}
entry=$data/applications/seamount.desktop
types=$data/mime/packages/seamount.xml
mark=X-Seamount-Folder

refresh() {
    # Desktops that have these tools look into their caches only.
    command -v update-desktop-database >/dev/null && update-desktop-database -q "$data/applications" || true
    command -v update-mime-database >/dev/null && [ -d "$data/mime/packages" ] && update-mime-database "$data/mime" || true
    command -v gtk-update-icon-cache >/dev/null && gtk-update-icon-cache -q -t "$data/icons/hicolor" || true
}

icons() {
    (cd "$here/share/icons" && find hicolor -type f)
}

add() {
    if [ "$(printf '%s' "$here" | wc -l)" -ne 0 ]; then
        echo "menu-entry: the name of this folder has a line break, which a menu entry cannot hold: move it" >&2
        exit 1
    fi
    if [ -e "$entry" ] && ! grep -q "^$mark=" "$entry"; then
        echo "menu-entry: $entry is not from here, so it stays: remove it first if you want this one" >&2
        exit 1
    fi
    # A quoted argument of Exec: its own escapes first, then those of any value, and the sign of a field code.
    program=$(printf '%s' "$here/seamount" | sed -e 's/["`$\\]/\\&/g' -e 's/\\/\\\\/g' -e 's/%/%%/g')
    folder=$(printf '%s' "$here" | sed -e 's/\\/\\\\/g')
    mkdir -p "$data/applications" "$data/mime/packages"
    while IFS= read -r line; do
        case $line in
            Exec=*) printf 'Exec="%s" %%U\n' "$program" ;;
            *) printf '%s\n' "$line" ;;
        esac
    done <"$here/share/applications/seamount.desktop" >"$entry.new"
    printf '%s=%s\n' "$mark" "$folder" >>"$entry.new"
    mv "$entry.new" "$entry"
    cp "$here/share/mime/packages/seamount.xml" "$types"
    icons | while IFS= read -r icon; do
        mkdir -p "$data/icons/$(dirname "$icon")"
        cp "$here/share/icons/$icon" "$data/icons/$icon"
    done
    refresh
    echo "Seamount is in your menu now."
}

remove() {
    if [ ! -e "$entry" ] || ! grep -q "^$mark=" "$entry"; then
        echo "menu-entry: no entry of Seamount's portable folder is in your menu" >&2
        exit 1
    fi
    rm -f "$entry" "$types"
    icons | while IFS= read -r icon; do
        rm -f "$data/icons/$icon"
    done
    refresh
    echo "Seamount is no longer in your menu. Your conversations stay; \`seamount doctor --forget\` removes them."
}

case ${1:-} in
    add) add ;;
    remove) remove ;;
    *)
        sed -n '2,7s/^# \{0,1\}//p' "$0"
        exit 2
        ;;
esac
