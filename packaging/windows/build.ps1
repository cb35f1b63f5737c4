# Makes dist\seamount-VERSION-setup.exe, on a 64-bit Windows 10 or newer with
#   Python 3.11 (the launcher, py), Visual Studio's build tools for C++, NSIS 3.08 or newer, and, for graphics cards,
#   the Vulkan SDK. SEAMOUNT_LICENCE_TEXTS names a folder with the texts Apache-2.0, GPL-3 and LGPL-3 (no suffix).
# To be run in the "x64 Native Tools Command Prompt":
#
#   powershell -ExecutionPolicy Bypass -File packaging\windows\build.ps1 [-SignAs THUMBPRINT]
#
# -SignAs: the thumbprint of a code signing certificate in the person's store. Without one, Windows warns of an
# unknown publisher when the installer is started.
[CmdletBinding()]
param([string]$SignAs = "")

Set-StrictMode -Version Latest
$ErrorActionPreference = "Stop"
Set-Location (Join-Path $PSScriptRoot "..\..")

function Stop-Build([string]$Sentence) {
    [Console]::Error.WriteLine("seamount installer: $Sentence")
    exit 1
}

# Runs a program and returns what it prints; its errors go to the console, its failure ends the build.
function Invoke-Program([string]$Program, [string[]]$Arguments) {
    $output = & $Program @Arguments
    if ($LASTEXITCODE -ne 0) {
        Stop-Build "$Program $($Arguments -join ' ') failed (see above)"
    }
    return $output
}

if (-not [Environment]::Is64BitOperatingSystem) {
    Stop-Build "this Windows is not a 64-bit one; Seamount is built and runs on those only"
}
if (-not (Get-Command cl -ErrorAction SilentlyContinue)) {
    Stop-Build "the C++ compiler is not on the path; run this in the x64 Native Tools Command Prompt of Visual Studio"
}
if (-not (Get-Command makensis -ErrorAction SilentlyContinue)) {
    $env:Path += ";${env:ProgramFiles(x86)}\NSIS"
}
if (-not (Get-Command makensis -ErrorAction SilentlyContinue)) {
    Stop-Build "makensis is not on the path and not in its usual folder; install NSIS"
}
if ($SignAs -and -not (Get-Command signtool -ErrorAction SilentlyContinue)) {
    Stop-Build "signtool is not on the path; it comes with the Windows SDK"
}
if (-not ($env:SEAMOUNT_LICENCE_TEXTS -and (Test-Path $env:SEAMOUNT_LICENCE_TEXTS))) {
    Stop-Build ("the licence texts Apache-2.0, GPL-3 and LGPL-3 are needed; name a folder with them in " +
        "SEAMOUNT_LICENCE_TEXTS")
}

function Add-Signature([string[]]$Files) {
    if ($SignAs) {
        Invoke-Program "signtool" (@("sign", "/sha1", $SignAs, "/fd", "SHA256") + $Files)
    }
}

$env:PYTHONUTF8 = "1"
Invoke-Program "py" @("-3.11", "packaging\environment.py", "dist")
$python = ".venv-bundle\Scripts\python.exe"
$pictures = Join-Path (Get-Location) "build\windows"
$env:SEAMOUNT_ICON = "$pictures\seamount.ico"
Invoke-Program $python @("packaging\program_icon.py", $env:SEAMOUNT_ICON)
Invoke-Program $python @("packaging\program_icon.py", "$pictures\seamount.bmp")
$bundle = @(Invoke-Program $python @("packaging\bundle\make_bundle.py"))[-1]
Add-Signature @("$bundle\seamount.exe", "$bundle\seamount-cli.exe")

$answer = @(Invoke-Program "$bundle\seamount-cli.exe" @("--version"))[-1]
$installer = "dist\seamount-$($answer -replace '^seamount ', '')-setup.exe"
Invoke-Program $python @("packaging\windows\make_installer.py", $bundle, $pictures, $installer)
Add-Signature @($installer)

$sum = (Get-FileHash -Algorithm SHA256 $installer).Hash.ToLower()
# As sha256sum writes it, with a line's end that it reads.
[IO.File]::WriteAllText((Join-Path (Get-Location) "$installer.sha256"), "$sum  $(Split-Path -Leaf $installer)`n")
Write-Output $installer
