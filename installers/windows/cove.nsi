; Per user, without administrator rights. Silent: /S; another folder: /D=FOLDER (last, unquoted). Status 2: the folder is another's, a newer
; Cove is installed, or Windows is too old. Status 3: Cove runs, and does not end.
; The uninstaller's /S keeps the machines.
Unicode true
Target amd64-unicode
SetCompressor zlib
ManifestDPIAware true
ManifestSupportedOS Win10
RequestExecutionLevel user
!include MUI2.nsh
!include LogicLib.nsh
!include WordFunc.nsh
!include x64.nsh
!include WinVer.nsh

Name "Cove"
OutFile "@OUT@"
InstallDir "$LOCALAPPDATA\Programs\Cove"
InstallDirRegKey HKCU "Software\Cove" "InstallDir"
VIProductVersion "@VERSION@.0"
VIAddVersionKey ProductName "Cove"
VIAddVersionKey CompanyName "@PUBLISHER@"
VIAddVersionKey FileDescription "@SUMMARY@"
VIAddVersionKey FileVersion "@VERSION@"
VIAddVersionKey ProductVersion "@VERSION@"
VIAddVersionKey LegalCopyright "@PUBLISHER@"
@SIGN@

!define GONE "Software\Microsoft\Windows\CurrentVersion\Uninstall\Cove"
!define MUI_ABORTWARNING
!define MUI_FINISHPAGE_RUN
!define MUI_FINISHPAGE_RUN_FUNCTION FirstContainer
!define MUI_FINISHPAGE_RUN_TEXT "Run a first container (cove hello)"
!define MUI_PAGE_CUSTOMFUNCTION_LEAVE LeaveFolder
!insertmacro MUI_PAGE_DIRECTORY
!insertmacro MUI_PAGE_INSTFILES
!insertmacro MUI_PAGE_FINISH
!insertmacro MUI_UNPAGE_CONFIRM
!insertmacro MUI_UNPAGE_INSTFILES
!insertmacro MUI_LANGUAGE "English"

!define RUNS "Cove still runs. Stop its machines (cove machine stop), close terminals in which it runs, and try again. Nothing has been changed."

; Files of a program that runs cannot be replaced: what runs of Cove is ended. All of it is run by the one python.exe, so when that can be
; deleted nothing runs any more, and when not nothing has been changed. Who has just ended may have it open for a moment yet.
!macro EndPrograms FOLDER
  nsExec::Exec '"${FOLDER}\python\python.exe" "${FOLDER}\setup\stop_machines.py"'
  Pop $0
  ${If} $0 != "3"
    StrCpy $1 20
    ${Do}
      ClearErrors
      Delete "${FOLDER}\python\python.exe"
      ${IfNot} ${Errors}
        StrCpy $0 "ended"
        ${ExitDo}
      ${EndIf}
      Sleep 500
      IntOp $1 $1 - 1
    ${LoopUntil} $1 == 0
  ${EndIf}
  ${If} $0 != "ended"
    CopyFiles /SILENT "$PLUGINSDIR\python.exe" "$INSTDIR\python" ; where it was deleted before another Cove did not end
    MessageBox MB_ICONSTOP "${RUNS}" /SD IDOK
    SetErrorLevel 3
    Quit
  ${EndIf}
!macroend

; Others may have folders of these names where somebody lets Cove be installed.
!macro RemoveProgram FOLDER
  RMDir /r "${FOLDER}\bin"
  RMDir /r "${FOLDER}\python"
  RMDir /r "${FOLDER}\setup"
  RMDir /r "${FOLDER}\site"
!macroend

; $0: "cove" when there is a Cove in the folder, "free" when there may be one, "taken" when the folder is not empty. Cove's own name for its
; folder is always free: an installation that was broken off is mended.
Function LookAtFolder
  ${If} ${FileExists} "$INSTDIR\bin\cove.exe"
  ${AndIf} ${FileExists} "$INSTDIR\setup\stop_machines.py"
    StrCpy $0 "cove"
    Return
  ${EndIf}
  StrCpy $0 "free"
  ${If} $INSTDIR == "$LOCALAPPDATA\Programs\Cove"
    Return
  ${EndIf}
  ClearErrors
  FindFirst $1 $2 "$INSTDIR\*"
  ${DoUntil} ${Errors}
    ${If} $2 != "."
    ${AndIf} $2 != ".."
      StrCpy $0 "taken"
    ${EndIf}
    FindNext $1 $2
  ${Loop}
  FindClose $1
FunctionEnd

!define TAKEN "$INSTDIR is not empty, and there is no Cove in it. Choose another folder: Cove wants one of its own."

Function LeaveFolder
  Call LookAtFolder
  ${If} $0 == "taken"
    MessageBox MB_ICONSTOP "${TAKEN}"
    Abort
  ${EndIf}
FunctionEnd

Function FirstContainer
  Exec '"$SYSDIR\cmd.exe" /k ""$INSTDIR\bin\cove.exe" hello"'
FunctionEnd

; Machines of a newer version may be none that this one knows. $0: the version that is installed and newer, or nothing.
Function LookAtVersion
  StrCpy $0 ""
  ReadRegStr $1 HKCU "${GONE}" "DisplayVersion"
  ReadRegStr $2 HKCU "${GONE}" "InstallLocation"
  ${If} $1 != ""
  ${AndIf} ${FileExists} "$2\bin\cove.exe"
    ${VersionCompare} "$1" "@VERSION@" $3
    ${If} $3 == 1
      StrCpy $0 $1
    ${EndIf}
  ${EndIf}
FunctionEnd

Function .onInit
  ${IfNot} ${RunningX64}
  ${OrIfNot} ${AtLeastWin10}
    MessageBox MB_ICONSTOP "Cove needs 64-bit Windows 10 or later." /SD IDOK
    SetErrorLevel 2
    Quit
  ${EndIf}
  Call LookAtVersion
  ${If} $0 != ""
    MessageBox MB_ICONSTOP "Cove $0 is installed, which is newer than @VERSION@. Uninstall it first (Settings, Apps)." /SD IDOK
    SetErrorLevel 2
    Quit
  ${EndIf}
FunctionEnd

Section
  SetShellVarContext current
  Call LookAtFolder
  ${If} $0 == "taken" ; silently: no page has asked
    MessageBox MB_ICONSTOP "${TAKEN}" /SD IDOK
    SetErrorLevel 2
    Quit
  ${EndIf}
  StrCpy $5 $0
  ${If} $5 == "cove"
    InitPluginsDir
    CopyFiles /SILENT "$INSTDIR\python\python.exe" "$PLUGINSDIR"
    !insertmacro EndPrograms "$INSTDIR"
  ${EndIf}
  ; There is one Cove: an earlier one in another folder makes way.
  ReadRegStr $4 HKCU "Software\Cove" "InstallDir"
  ${If} $4 != ""
  ${AndIf} $4 != $INSTDIR
  ${AndIf} ${FileExists} "$4\bin\cove.exe"
  ${AndIf} ${FileExists} "$4\setup\stop_machines.py"
    !insertmacro EndPrograms "$4"
  ${Else}
    StrCpy $4 ""
  ${EndIf}
  ; Nothing runs any more: nothing is removed before.
  ${If} $5 == "cove"
    !insertmacro RemoveProgram "$INSTDIR"
  ${EndIf}
  ${If} $4 != ""
    !insertmacro RemoveProgram "$4"
    Delete "$4\Uninstall.exe"
    RMDir "$4"
  ${EndIf}
  SetOutPath "$INSTDIR"
  File /r "@TREE@/*"
  WriteUninstaller "$INSTDIR\Uninstall.exe"
  WriteRegStr HKCU "Software\Cove" "InstallDir" "$INSTDIR"
  WriteRegStr HKCU "${GONE}" "DisplayName" "Cove"
  WriteRegStr HKCU "${GONE}" "DisplayVersion" "@VERSION@"
  WriteRegStr HKCU "${GONE}" "Publisher" "@PUBLISHER@"
  WriteRegStr HKCU "${GONE}" "InstallLocation" "$INSTDIR"
  WriteRegStr HKCU "${GONE}" "UninstallString" '"$INSTDIR\Uninstall.exe"'
  WriteRegStr HKCU "${GONE}" "QuietUninstallString" '"$INSTDIR\Uninstall.exe" /S'
  WriteRegDWORD HKCU "${GONE}" "EstimatedSize" @SIZE@
  WriteRegDWORD HKCU "${GONE}" "NoModify" 1
  WriteRegDWORD HKCU "${GONE}" "NoRepair" 1
  CreateShortCut "$SMPROGRAMS\Cove.lnk" "$SYSDIR\cmd.exe" '/k ""$INSTDIR\bin\cove.exe" hello"' "$INSTDIR\bin\cove.exe"
  ${If} $4 != ""
    nsExec::ExecToLog '"$INSTDIR\python\python.exe" "$INSTDIR\setup\user_path.py" remove "$4\bin"'
    Pop $0
  ${EndIf}
  nsExec::ExecToLog '"$INSTDIR\python\python.exe" "$INSTDIR\setup\user_path.py" add "$INSTDIR\bin"'
  Pop $0
  ${If} $0 != 0
    DetailPrint "PATH could not be changed: add $INSTDIR\bin to it"
  ${EndIf}
SectionEnd

Section Uninstall
  SetShellVarContext current
  MessageBox MB_YESNO|MB_ICONQUESTION|MB_DEFBUTTON2 "Remove Cove's machines too, with all containers, images and volumes in them?" /SD IDNO IDYES all
    nsExec::ExecToLog '"$INSTDIR\bin\cove.exe" uninstall --force --keep-data'
    Goto done
  all:
    nsExec::ExecToLog '"$INSTDIR\bin\cove.exe" uninstall --force'
  done:
  Pop $0
  ${If} $0 != 0
    DetailPrint "What Cove has made could not be removed, or a machine does not stop (status $0)"
  ${EndIf}
  nsExec::ExecToLog '"$INSTDIR\python\python.exe" "$INSTDIR\setup\user_path.py" remove "$INSTDIR\bin"'
  Pop $0
  Delete "$SMPROGRAMS\Cove.lnk"
  ; An uninstaller that has been copied elsewhere, or is told another folder (_?=), leaves that alone. One of the two may be lost.
  ${If} ${FileExists} "$INSTDIR\bin\cove.exe"
  ${OrIf} ${FileExists} "$INSTDIR\setup\stop_machines.py"
    !insertmacro RemoveProgram "$INSTDIR"
  ${EndIf}
  Delete "$INSTDIR\Uninstall.exe"
  RMDir "$INSTDIR"
  RMDir "$LOCALAPPDATA\Programs" ; when it is empty: Windows makes it for the first program
  DeleteRegKey HKCU "${GONE}"
  DeleteRegKey HKCU "Software\Cove"
SectionEnd
