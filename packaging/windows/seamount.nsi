; The installer for Windows, compiled by make_installer.py, which defines:
;   VERSION       the project's version            VERSION_NUMBERS  the same as four numbers
;   ICON          the program's .ico file          PICTURE          what stands beside the last page, a .bmp file
;   LISTS         a folder with install.nsh and remove.nsh, every file and folder of the bundle by name
;   SIZE_KIB      what the bundle takes on a disk  OUTPUT           the installer that is written
;
; It installs for one person, without an administrator, and knows nothing of what the program does. What it puts
; somewhere it also takes away: files by name, so that nothing of another program or of the person's goes with a
; folder. The person's data lies elsewhere and is never touched. An earlier version is removed by its own
; uninstaller before the new one is put in its place.
;
; Silently: seamount-setup.exe /S [/D=C:\any folder], uninstall.exe /S. Exit status 0: done; 2: not done, and the
; reason is one sentence on standard output (a message box, when it is not silent).

Unicode true
ManifestDPIAware true
RequestExecutionLevel user
SetCompressor /SOLID lzma
SetCompressorDictSize 32
CRCCheck force
AllowSkipFiles off

!include "MUI2.nsh"
!include "FileFunc.nsh"
!include "LogicLib.nsh"
!include "WinVer.nsh"
!include "x64.nsh"

!define PUBLISHER "Seamount developers"
!define FILE_CLASS "Seamount.gguf"
!define LINK_CLASS "Seamount.link"
!define UNINSTALL_KEY "Software\Microsoft\Windows\CurrentVersion\Uninstall\Seamount"
!define CAPABILITIES_KEY "Software\Seamount\Capabilities"
; SHChangeNotify's SHCNE_ASSOCCHANGED: the shell reads associations and their icons anew.
!define ASSOCIATIONS_CHANGED 0x08000000
!define ALREADY_EXISTS 183

Name "Seamount"
OutFile "${OUTPUT}"
InstallDir "$LOCALAPPDATA\Programs\Seamount"
InstallDirRegKey HKCU "${UNINSTALL_KEY}" "InstallLocation"
BrandingText "Seamount ${VERSION}"

VIProductVersion "${VERSION_NUMBERS}"
VIAddVersionKey "ProductName" "Seamount"
VIAddVersionKey "ProductVersion" "${VERSION}"
VIAddVersionKey "FileVersion" "${VERSION}"
VIAddVersionKey "FileDescription" "Seamount set-up"
VIAddVersionKey "CompanyName" "${PUBLISHER}"
VIAddVersionKey "LegalCopyright" "MIT licence"

Var data
Var earlier
Var reason

!define MUI_ICON "${ICON}"
!define MUI_UNICON "${ICON}"
!define MUI_ABORTWARNING
!define MUI_FINISHPAGE_RUN "$INSTDIR\seamount.exe"
!define MUI_WELCOMEFINISHPAGE_BITMAP "${PICTURE}"
!define MUI_FINISHPAGE_TEXT "It is in your Start menu. $\"$INSTDIR\seamount-cli.exe$\" is the same in a terminal."
!define MUI_UNCONFIRMPAGE_TEXT_TOP "Your conversations, settings and models stay in $data. To remove those too, \
cancel, run seamount-cli.exe doctor --forget in the folder below, and come back."
; No licence to agree to: MIT's asks nothing of who uses the program. It is in the About box, with all others.
!insertmacro MUI_PAGE_DIRECTORY
!insertmacro MUI_PAGE_INSTFILES
!insertmacro MUI_PAGE_FINISH
!insertmacro MUI_UNPAGE_CONFIRM
!insertmacro MUI_UNPAGE_INSTFILES
!insertmacro MUI_LANGUAGE "English"

; A line on standard output, for who installs silently from a script: a console or a pipe, where there is one.
!macro Say TEXT
  Push $0
  System::Call 'kernel32::AttachConsole(i -1)'
  System::Call 'kernel32::GetStdHandle(i -11) p .r0'
  ${If} $0 P> 0
    FileWrite $0 "${TEXT}$\r$\n"
  ${EndIf}
  Pop $0
!macroend

!macro Refuse TEXT
  StrCpy $reason "${TEXT}"
  ${If} ${Silent}
    !insertmacro Say "$reason"
  ${Else}
    MessageBox MB_OK|MB_ICONSTOP "$reason"
  ${EndIf}
  SetErrorLevel 2
  Quit
!macroend

; A program that runs cannot be opened for writing; so nothing needs to know what its processes are called. What a
; window started (its engine, downloads) runs from the same two files.
!macro RefuseWhileRunning FOLDER EXECUTABLE WHAT
  ${Do}
    ${IfNot} ${FileExists} "${FOLDER}\${EXECUTABLE}"
      ${Break}
    ${EndIf}
    ClearErrors
    FileOpen $R0 "${FOLDER}\${EXECUTABLE}" a
    ${IfNot} ${Errors}
      FileClose $R0
      ${Break}
    ${EndIf}
    StrCpy $reason "Seamount cannot be ${WHAT} while it or one of its downloads is running in ${FOLDER}; \
close it, wait a few seconds, and try again."
    ${If} ${Silent}
      !insertmacro Refuse "$reason"
    ${EndIf}
    MessageBox MB_RETRYCANCEL|MB_ICONEXCLAMATION "$reason" IDRETRY +3
    SetErrorLevel 2
    Quit
  ${Loop}
!macroend

; The same places as engine/paths.py names.
!macro FindData
  ReadEnvStr $data "SEAMOUNT_DATA"
  ${If} $data == ""
    StrCpy $data "$LOCALAPPDATA\seamount"
  ${EndIf}
!macroend

!macro TellShell
  System::Call 'shell32::SHChangeNotify(i ${ASSOCIATIONS_CHANGED}, i 0, p 0, p 0)'
!macroend

Function .onInit
  ${IfNot} ${RunningX64}
    !insertmacro Refuse "Seamount cannot be installed because this Windows is not a 64-bit one; it needs that."
  ${EndIf}
  ${IfNot} ${AtLeastWin10}
    !insertmacro Refuse "Seamount cannot be installed because this Windows is too old; it needs Windows 10 or newer."
  ${EndIf}
  System::Call 'kernel32::CreateMutex(p 0, i 0, t "SeamountSetup") p .r1 ?e'
  Pop $R0
  ${If} $R0 = ${ALREADY_EXISTS}
    !insertmacro Refuse "Seamount is being installed already by another set-up; let that one finish, or close it."
  ${EndIf}
FunctionEnd

; Takes the version in the folder $earlier away, if there is one, by its own uninstaller. A copy of that is run, as
; a program cannot remove its own file while it runs.
Function RemoveEarlier
  ${IfNot} ${FileExists} "$earlier\uninstall.exe"
    Return
  ${EndIf}
  DetailPrint "Removing the version in $earlier"
  InitPluginsDir
  ClearErrors
  CopyFiles /SILENT "$earlier\uninstall.exe" "$PLUGINSDIR\earlier.exe"
  ${If} ${Errors}
    !insertmacro Refuse "Seamount cannot be installed because the earlier version in $earlier cannot be read; \
remove it in Windows' settings and try again."
  ${EndIf}
  ExecWait '"$PLUGINSDIR\earlier.exe" /S /REPLACED _?=$earlier' $R0
  ${If} ${Errors}
  ${OrIf} $R0 <> 0
    !insertmacro Refuse "Seamount cannot be installed because the earlier version in $earlier could not be removed; \
close Seamount, remove it in Windows' settings, and try again."
  ${EndIf}
FunctionEnd

; Windows lets a file or a folder go only when the last process that has it open ends, the uninstaller that started
; this one for example; so what does not go at once is tried again for a second.
!macro Insist COMMAND PATH
  StrCpy $R0 0
  ${Do}
    ClearErrors
    ${COMMAND} "${PATH}"
    ${IfNot} ${Errors}
      ${Break}
    ${EndIf}
    Sleep 50
    IntOp $R0 $R0 + 1
  ${LoopUntil} $R0 >= 20
!macroend

; The folder, where nothing is in it, and the one that Windows has for such folders, where it was in that.
!macro DropFolder REGISTERED
  SetOutPath "$TEMP"
  ${DirState} "$INSTDIR" $R1
  ${If} $R1 = 0
    !insertmacro Insist RMDir "$INSTDIR"
  ${EndIf}
  ${If} "${REGISTERED}" == "$LOCALAPPDATA\Programs\Seamount"
    !insertmacro Insist RMDir "$LOCALAPPDATA\Programs"
  ${EndIf}
!macroend

Section "Seamount"
  SetShellVarContext current

  ; Before anything is changed: is this a folder of our own, does nothing run, is there room?
  ${IfNot} ${FileExists} "$INSTDIR\uninstall.exe"
    ${DirState} "$INSTDIR" $R0
    ${If} $R0 = 1
      !insertmacro Refuse "Seamount cannot be installed into $INSTDIR because something else is in that folder; \
choose a new or an empty one."
    ${EndIf}
  ${EndIf}
  ReadRegStr $earlier HKCU "${UNINSTALL_KEY}" "InstallLocation"
  ${If} $earlier == ""
    StrCpy $earlier "$INSTDIR"
  ${EndIf}
  !insertmacro RefuseWhileRunning "$earlier" "seamount.exe" "replaced"
  !insertmacro RefuseWhileRunning "$earlier" "seamount-cli.exe" "replaced"
  !insertmacro RefuseWhileRunning "$INSTDIR" "seamount.exe" "replaced"
  !insertmacro RefuseWhileRunning "$INSTDIR" "seamount-cli.exe" "replaced"

  ClearErrors
  SetOutPath "$INSTDIR"
  ${If} ${Errors}
    !insertmacro Refuse "Seamount cannot be installed because the folder $INSTDIR cannot be made; choose one that \
you may write to."
  ${EndIf}
  ; Of the folder's own disk, in 64 bits.
  System::Call 'kernel32::GetDiskFreeSpaceEx(t "$INSTDIR", *l .r0, p 0, p 0) i .r1'
  ${If} $1 <> 0
    System::Int64Op $0 / 1024
    Pop $0
    System::Int64Op $0 < ${SIZE_KIB}
    Pop $1
    ${If} $1 <> 0
      !insertmacro DropFolder "$INSTDIR"
      !insertmacro Refuse "Seamount cannot be installed because the disk of $INSTDIR has only $0 KiB free of the \
${SIZE_KIB} KiB that it takes; free some space and try again."
    ${EndIf}
  ${EndIf}

  SetOutPath "$TEMP"
  Call RemoveEarlier
  StrCpy $earlier "$INSTDIR"
  Call RemoveEarlier
  SetOutPath "$INSTDIR"

  ; First what takes it away again, should the rest be cut off.
  WriteUninstaller "$INSTDIR\uninstall.exe"
  WriteRegStr HKCU "${UNINSTALL_KEY}" "DisplayName" "Seamount"
  WriteRegStr HKCU "${UNINSTALL_KEY}" "DisplayVersion" "${VERSION}"
  WriteRegStr HKCU "${UNINSTALL_KEY}" "DisplayIcon" "$INSTDIR\seamount.exe"
  WriteRegStr HKCU "${UNINSTALL_KEY}" "Publisher" "${PUBLISHER}"
  WriteRegStr HKCU "${UNINSTALL_KEY}" "InstallLocation" "$INSTDIR"
  WriteRegStr HKCU "${UNINSTALL_KEY}" "UninstallString" '"$INSTDIR\uninstall.exe"'
  WriteRegStr HKCU "${UNINSTALL_KEY}" "QuietUninstallString" '"$INSTDIR\uninstall.exe" /S'
  WriteRegDWORD HKCU "${UNINSTALL_KEY}" "EstimatedSize" ${SIZE_KIB}
  WriteRegDWORD HKCU "${UNINSTALL_KEY}" "NoModify" 1
  WriteRegDWORD HKCU "${UNINSTALL_KEY}" "NoRepair" 1

  !include "${LISTS}/install.nsh"

  SetOutPath "$INSTDIR"
  CreateShortcut "$SMPROGRAMS\Seamount.lnk" "$INSTDIR\seamount.exe"

  ; Model files: one more program that can open them. Which one does is for the person to say.
  WriteRegStr HKCU "Software\Classes\${FILE_CLASS}" "" "GGUF model"
  WriteRegStr HKCU "Software\Classes\${FILE_CLASS}\DefaultIcon" "" "$INSTDIR\seamount.exe,0"
  WriteRegStr HKCU "Software\Classes\${FILE_CLASS}\shell\open\command" "" '"$INSTDIR\seamount.exe" "%1"'
  WriteRegStr HKCU "Software\Classes\.gguf\OpenWithProgids" "${FILE_CLASS}" ""

  ; Links to models.
  WriteRegStr HKCU "Software\Classes\seamount" "" "URL:Seamount link"
  WriteRegStr HKCU "Software\Classes\seamount" "URL Protocol" ""
  WriteRegStr HKCU "Software\Classes\seamount\DefaultIcon" "" "$INSTDIR\seamount.exe,0"
  WriteRegStr HKCU "Software\Classes\seamount\shell\open\command" "" '"$INSTDIR\seamount.exe" "%1"'
  WriteRegStr HKCU "Software\Classes\${LINK_CLASS}" "" "Seamount link"
  WriteRegStr HKCU "Software\Classes\${LINK_CLASS}\DefaultIcon" "" "$INSTDIR\seamount.exe,0"
  WriteRegStr HKCU "Software\Classes\${LINK_CLASS}\shell\open\command" "" '"$INSTDIR\seamount.exe" "%1"'

  ; What Windows' settings list under default programs.
  WriteRegStr HKCU "${CAPABILITIES_KEY}" "ApplicationName" "Seamount"
  WriteRegStr HKCU "${CAPABILITIES_KEY}" "ApplicationDescription" "Talk to DeepSeek-V4 on your own machine"
  WriteRegStr HKCU "${CAPABILITIES_KEY}\FileAssociations" ".gguf" "${FILE_CLASS}"
  WriteRegStr HKCU "${CAPABILITIES_KEY}\URLAssociations" "seamount" "${LINK_CLASS}"
  WriteRegStr HKCU "Software\RegisteredApplications" "Seamount" "${CAPABILITIES_KEY}"
  !insertmacro TellShell
SectionEnd

Function un.onInit
  SetShellVarContext current
  !insertmacro FindData
  !insertmacro RefuseWhileRunning "$INSTDIR" "seamount.exe" "removed"
  !insertmacro RefuseWhileRunning "$INSTDIR" "seamount-cli.exe" "removed"
FunctionEnd

Section "Uninstall"
  SetOutPath "$TEMP"
  !include "${LISTS}/remove.nsh"
  !insertmacro Insist Delete "$INSTDIR\uninstall.exe"
  ; Goes only when it is empty: what else is in there is not ours.
  ReadRegStr $0 HKCU "${UNINSTALL_KEY}" "InstallLocation"
  !insertmacro DropFolder "$0"

  ; Another copy may have been installed in the meantime; what it registered stays. A folder has several names on
  ; Windows: so it is this one, too, when nothing is there under the name that was registered.
  ${If} $0 == "$INSTDIR"
  ${OrIfNot} ${FileExists} "$0\uninstall.exe"
    Delete "$SMPROGRAMS\Seamount.lnk"
    DeleteRegKey HKCU "${UNINSTALL_KEY}"
    DeleteRegKey /ifempty HKCU "Software\Microsoft\Windows\CurrentVersion\Uninstall"
    DeleteRegValue HKCU "Software\RegisteredApplications" "Seamount"
    DeleteRegKey /ifempty HKCU "Software\RegisteredApplications"
    DeleteRegKey HKCU "${CAPABILITIES_KEY}"
    DeleteRegKey /ifempty HKCU "Software\Seamount"
    DeleteRegKey HKCU "Software\Classes\${FILE_CLASS}"
    DeleteRegKey HKCU "Software\Classes\${LINK_CLASS}"
    DeleteRegKey HKCU "Software\Classes\seamount"
    DeleteRegValue HKCU "Software\Classes\.gguf\OpenWithProgids" "${FILE_CLASS}"
    DeleteRegKey /ifempty HKCU "Software\Classes\.gguf\OpenWithProgids"
    DeleteRegKey /ifempty HKCU "Software\Classes\.gguf"
    !insertmacro TellShell
  ${EndIf}

  ; Who replaces it by another version need not be told.
  ${GetParameters} $R0
  ClearErrors
  ${GetOptions} $R0 "/REPLACED" $R1
  ${If} ${Errors}
  ${AndIf} ${FileExists} "$data\*.*"
    StrCpy $reason "Seamount is removed. Your conversations, settings and models are still in $data."
    ${If} ${Silent}
      !insertmacro Say "$reason"
    ${Else}
      MessageBox MB_OK|MB_ICONINFORMATION "$reason"
    ${EndIf}
  ${EndIf}
SectionEnd
