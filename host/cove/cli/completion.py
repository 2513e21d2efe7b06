"""`cove completion`: prints what makes a shell complete Cove's command lines."""

from __future__ import annotations

import click

from cove.cli.clicked import Command
from cove.cli.errors import CliError

BASH = r"""# Completion of cove for bash. To use it now: source <(cove completion bash)
# For good: cove completion bash > ~/.local/share/bash-completion/completions/cove
_cove() {
    local IFS=$'\n' program=${1/#\~/$HOME} current=$2 answers last
    [[ $program == */cove ]] || program=cove  # another name is an alias
    COMPREPLY=()
    answers=($("$program" __complete bash "${COMP_LINE:0:COMP_POINT}" "$COMP_WORDBREAKS" 2>/dev/null)) || return
    (( ${#answers[@]} )) || return
    last=${answers[${#answers[@]}-1]}
    unset "answers[${#answers[@]}-1]"
    COMPREPLY=("${answers[@]}")
    case $last in
        :open) compopt -o nospace 2>/dev/null ;;
        :files) (( ${#answers[@]} )) || compopt -o default 2>/dev/null || COMPREPLY=($(compgen -f -- "$current")) ;;
    esac
    if [[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} == *= ]]; then compopt -o nospace 2>/dev/null; fi
}
complete -F _cove cove
"""

ZSH = r"""#compdef cove
# Completion of cove for zsh. To use it now: source <(cove completion zsh)
# For good: cove completion zsh > "${fpath[1]}/_cove", and start a new shell
_cove() {
    local -a answers found
    local line last program=${(Q)words[1]/#\~/$HOME}
    [[ $program == */cove ]] || program=cove  # another name is an alias
    answers=("${(@f)$($program __complete zsh "${(@Q)words[2,CURRENT-1]}" "${(Q)PREFIX}" 2>/dev/null)}")
    last=$answers[-1]
    for line in "${(@)answers[1,-2]}"; do
        if [[ $line == *$'\t'* ]]; then
            found+=("${${line%%$'\t'*}//:/\\:}:${line#*$'\t'}")
        else
            found+=("${line//:/\\:}")
        fi
    done
    if (( ${#found} )); then
        if [[ $last == :open ]]; then _describe -t values cove found -S ''; else _describe -t values cove found; fi
    fi
    [[ $last == :files ]] && _files
}
if [[ $funcstack[1] == _cove ]]; then
    _cove "$@"
else
    (( $+functions[compdef] )) || { autoload -Uz compinit && compinit -u; }
    compdef _cove cove
fi
"""

FISH = r"""# Completion of cove for fish. To use it now: cove completion fish | source
# For good: cove completion fish > ~/.config/fish/completions/cove.fish
function __cove_complete
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    set -l program $words[1]
    set -e words[1]
    set -l answers ($program __complete fish $words "$current" 2>/dev/null)
    or return
    set -l last $answers[-1]
    set -e answers[-1]
    test (count $answers) -gt 0; and printf '%s\n' $answers
    test "$last" = :files; and __fish_complete_path "$current"
end
complete -c cove -f -a '(__cove_complete)'
"""

POWERSHELL = r"""# Completion of cove for PowerShell. To use it now: cove completion powershell | Out-String | Invoke-Expression
# For good: add that line to the file that $PROFILE names
Register-ArgumentCompleter -Native -CommandName cove -ScriptBlock {
    param($wordToComplete, $commandAst, $cursorPosition)
    $words = @($commandAst.CommandElements |
        Where-Object { $_.Extent.StartOffset -lt $cursorPosition } | ForEach-Object { $_.Extent.Text })
    $program = $words[0]
    $words = @($words | Select-Object -Skip 1)
    if ($wordToComplete -ne '' -and $words.Count -gt 0) { $words = @($words | Select-Object -SkipLast 1) }
    # A letter before the word that is typed, for PowerShell passes no empty arguments on.
    $answers = @(& $program __complete powershell @words "=$wordToComplete" 2>$null)
    $answers | Where-Object { $_ -notmatch '^:(none|files|open)$' } | ForEach-Object {
        $value, $about = $_ -split "`t", 2
        if (-not $about) { $about = $value }
        [System.Management.Automation.CompletionResult]::new($value, $value, 'ParameterValue', $about)
    }
}
"""

SCRIPTS = {"bash": BASH, "fish": FISH, "powershell": POWERSHELL, "zsh": ZSH}


@click.command(
    "completion",
    cls=Command,
    short_help="Print what completes command lines in bash, fish, PowerShell or zsh",
    help="Print what completes command lines in bash, fish, PowerShell or zsh\n\nTo use it now:"
    "\n  bash        source <(cove completion bash)\n  zsh         source <(cove completion zsh)"
    "\n  fish        cove completion fish | source"
    "\n  PowerShell  cove completion powershell | Out-String | Invoke-Expression"
    "\n\nWhat is printed begins with how to have it for good.",
)
@click.argument("shell", metavar="SHELL")
def command(shell: str) -> None:
    script = SCRIPTS.get(shell.lower().removesuffix(".exe").replace("pwsh", "powershell"))
    if script is None:
        raise CliError(f"cove: {shell!r} is no shell that can be completed in\n      known are: {', '.join(SCRIPTS)}")
    print(script, end="")
