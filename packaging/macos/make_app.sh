#!/usr/bin/env bash
# Makes build/bundle/Seamount.app and dist/seamount-VERSION-arm64.dmg, on a Mac with Apple's command line tools and
# Python 3.11 or newer. SEAMOUNT_LICENCE_TEXTS names a folder with the texts Apache-2.0, GPL-3 and LGPL-3 (no suffix).
#
#   packaging/macos/make_app.sh
#       signed for this Mac only ("ad hoc"): elsewhere the first start needs a right click and Open
#   SEAMOUNT_SIGN_AS="Developer ID Application: NAME (TEAM)" SEAMOUNT_NOTARY_PROFILE=PROFILE packaging/macos/make_app.sh
#       signed for everybody and notarised; PROFILE is what `xcrun notarytool store-credentials PROFILE` has kept
#       in the keychain: no password is given to this script
set -euo pipefail
cd "$(dirname "$0")/../.."

fail() {
    printf 'seamount app: %s\n' "$1" >&2
    exit 1
}

[ "$(uname -s)" = Darwin ] || fail "an app is made on a Mac only; on Linux, make dist makes the packages for Linux"
for tool in codesign hdiutil xcrun; do
    command -v "$tool" >/dev/null || fail "$tool is missing; install Apple's tools (xcode-select --install)"
done
if [ -n "${SEAMOUNT_NOTARY_PROFILE:-}" ] && [ -z "${SEAMOUNT_SIGN_AS:-}" ]; then
    fail "what is not signed cannot be notarised; set SEAMOUNT_SIGN_AS too"
fi
if [ ! -d "${SEAMOUNT_LICENCE_TEXTS:-}" ]; then
    fail "the licence texts Apache-2.0, GPL-3 and LGPL-3 are needed; name a folder with them in SEAMOUNT_LICENCE_TEXTS"
fi

# Everything that is compiled here runs on the oldest macOS that Info.plist names.
MACOSX_DEPLOYMENT_TARGET=$(/usr/libexec/PlistBuddy -c 'Print :LSMinimumSystemVersion' packaging/macos/Info.plist)
export MACOSX_DEPLOYMENT_TARGET

"${PYTHON:-python3}" packaging/environment.py dist
python=.venv-bundle/bin/python
SEAMOUNT_ICON=$PWD/build/macos/seamount.icns
export SEAMOUNT_ICON
"$python" packaging/program_icon.py "$SEAMOUNT_ICON"
bundle=$("$python" packaging/bundle/make_bundle.py)
app=$(dirname "$bundle")/Seamount.app

# The licences are gathered when the app is laid out already. Its seal is made anew: what it holds of code has been
# signed, by the same identity, while it was laid out.
ditto "$bundle/_internal/licences" "$app/Contents/Resources/licences"
ln -sfn ../Resources/licences "$app/Contents/Frameworks/licences"
signing=(--force --options runtime --entitlements packaging/macos/entitlements.plist)
if [ -n "${SEAMOUNT_SIGN_AS:-}" ]; then
    codesign "${signing[@]}" --timestamp --sign "$SEAMOUNT_SIGN_AS" "$app"
else
    codesign "${signing[@]}" --sign - "$app"
fi
codesign --verify --deep --strict "$app"
"$app/Contents/MacOS/seamount" --version

notarised() {
    xcrun notarytool submit "$1" --keychain-profile "$SEAMOUNT_NOTARY_PROFILE" --wait
}

# The app gets its own ticket, so that it opens without a network wherever it is dragged to.
if [ -n "${SEAMOUNT_NOTARY_PROFILE:-}" ]; then
    archive=$(dirname "$bundle")/Seamount.zip
    ditto -c -k --keepParent "$app" "$archive"
    notarised "$archive"
    rm "$archive"
    xcrun stapler staple "$app"
fi

version=$(/usr/libexec/PlistBuddy -c 'Print :CFBundleShortVersionString' "$app/Contents/Info.plist")
image=dist/seamount-$version-$(uname -m).dmg
staging=$(mktemp -d)
trap 'rm -rf "$staging"' EXIT
ditto "$app" "$staging/Seamount.app"
ln -s /Applications "$staging/Applications"
mkdir -p dist
rm -f "$image"
hdiutil create -quiet -volname Seamount -fs HFS+ -format UDZO -srcfolder "$staging" "$image"
if [ -n "${SEAMOUNT_SIGN_AS:-}" ]; then
    codesign --force --timestamp --sign "$SEAMOUNT_SIGN_AS" "$image"
fi
if [ -n "${SEAMOUNT_NOTARY_PROFILE:-}" ]; then
    notarised "$image"
    xcrun stapler staple "$image"
    spctl --assess --type open --context context:primary-signature "$image"
fi
(cd dist && shasum -a 256 "$(basename "$image")" >"$(basename "$image").sha256")
printf '%s\n' "$image"
