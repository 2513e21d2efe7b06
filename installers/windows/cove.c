/* cove.exe: runs ..\python\python.exe -m cove with its own arguments, as they came, and ends as that does.
 *
 * It is another program than python.exe because the agent is started by the name of the interpreter, and because PATH should lead to
 * nothing but cove. */
#include <windows.h>
#include <stdio.h>
#include <wchar.h>

#define LONGEST 32768 /* what a command line may have (CreateProcessW) */

static const wchar_t *arguments(void)
{
    const wchar_t *line = GetCommandLineW();
    int quoted = 0;
    for (; *line && (quoted || (*line != L' ' && *line != L'\t')); line++) /* as the C library takes the first word: no escapes */
        if (*line == L'"')
            quoted = !quoted;
    return line;
}

static BOOL WINAPI left_to_python(DWORD event)
{
    return event == CTRL_C_EVENT || event == CTRL_BREAK_EVENT;
}

int wmain(void)
{
    static wchar_t folder[LONGEST], line[LONGEST];
    DWORD length = GetModuleFileNameW(NULL, folder, LONGEST), status = 1;
    STARTUPINFOW start = {.cb = sizeof start};
    PROCESS_INFORMATION process;
    JOBOBJECT_EXTENDED_LIMIT_INFORMATION limits = {0};
    HANDLE job = CreateJobObjectW(NULL, NULL);

    for (int up = 0; up < 2 && length; up++) { /* the program's name, then bin */
        while (length && folder[length - 1] != L'\\')
            length--;
        folder[length ? --length : 0] = 0;
    }
    if (swprintf(line, LONGEST, L"\"%ls\\python\\python.exe\" -m cove%ls", folder, arguments()) < 0) {
        fputs("cove: the command line is too long\n", stderr);
        return 125;
    }
    /* Python ends with this program, and what it has started and left running (the agent) does not. */
    limits.BasicLimitInformation.LimitFlags = JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE | JOB_OBJECT_LIMIT_SILENT_BREAKAWAY_OK;
    SetInformationJobObject(job, JobObjectExtendedLimitInformation, &limits, sizeof limits);
    SetConsoleCtrlHandler(left_to_python, TRUE);
    GetStartupInfoW(&start);
    if (!CreateProcessW(NULL, line, NULL, NULL, TRUE, 0, NULL, NULL, &start, &process)) {
        fprintf(stderr, "cove: its Python cannot be started (error %lu); install Cove again\n", GetLastError());
        return 125;
    }
    AssignProcessToJobObject(job, process.hProcess);
    WaitForSingleObject(process.hProcess, INFINITE);
    GetExitCodeProcess(process.hProcess, &status);
    return (int)status;
}
