"""Shell completion of ``oin``: a bash script that zsh reads too, made from the command line's own dataclasses."""

import dataclasses
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, get_args, get_origin, get_type_hints

from tyro.conf import Positional

from benchmark.specs import Experiment

FILES = "<files>"
CHOICES = {
    "device": ("auto", "cpu", "cuda"),
    "precision": ("auto", "32-true", "bf16-mixed"),
    "wandb": ("off", "online", "offline"),
    "engine": ("inline", "ray"),
    "address": ("auto",),
    "compile": ("auto", "off", "default", "graphs", "compiled-graphs"),
    "shell": ("bash", "zsh"),
}
OF_AN_EXPERIMENT = {
    "profile": lambda experiment: experiment.profiles,
    "only": lambda experiment: [row.key for row in experiment.rows],
    "dataset": lambda experiment: experiment.datasets,
}
FOR_ZSH = "autoload -U +X compinit && compinit\nautoload -U +X bashcompinit && bashcompinit\n\n"
SCRIPT = """\
_oin() {{
  local current=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD-1]}} command=${{COMP_WORDS[1]}}
  local experiment= option= words= word= i
  COMPREPLY=()
  for (( i = 2; i < COMP_CWORD; i++ )); do
    word=${{COMP_WORDS[i]}}
    case $word in
      {experiments}) experiment=$word ;;
      -*) option=$word ;;
    esac
  done
  case "$command $option" in
{flags}
  esac
  if (( COMP_CWORD == 1 )); then
    words={commands}
  elif [[ $current == -* ]]; then
    case $command in
{options}
    esac
  else
    case "$command $option $experiment" in
{values}
    esac
  fi
  if [[ $words == "{files}" ]]; then
    local IFS=$'\\n'
    compopt -o filenames 2> /dev/null
    COMPREPLY=($(compgen -f -- "$current"))
  else
    COMPREPLY=($(compgen -W "$words" -- "$current"))
  fi
}}
complete -F _oin oin
"""


@dataclasses.dataclass(frozen=True)
class _Argument:
    """``option`` is ``--name``, empty if positional; ``words`` says how many values follow: none, one or many."""

    name: str
    option: str
    words: str


def completion_script(
    shell: str, commands: Sequence[type], experiments: Iterable[Experiment], networks: Iterable[str]
) -> str:
    """The script of a shell.

    Args:
        shell: bash or zsh.
        commands: dataclasses, one a subcommand, as tyro reads them.
        experiments: to complete their names, profiles, rows and data sets.
        networks: registered names.
    """
    experiments, networks = list(experiments), list(networks)
    arguments = {subcommand_name(command): list(_arguments(command)) for command in commands}
    return (FOR_ZSH if shell == "zsh" else "") + SCRIPT.format(
        experiments="|".join(e.name for e in experiments),
        flags=_indented(4, _ended_options(arguments)),
        commands=_quoted(arguments),
        options=_indented(6, (f"{name}) words={_quoted(_options(some))} ;;" for name, some in arguments.items())),
        values=_indented(6, _values(arguments, experiments, networks)),
        files=FILES,
    )


def subcommand_name(command: type) -> str:
    """As tyro spells it: ``verify-paper`` of ``VerifyPaper``."""
    return re.sub(r"(?<!^)(?=[A-Z])", "-", command.__name__).lower()


def _arguments(command: type) -> Iterator[_Argument]:
    hints = get_type_hints(command, include_extras=True)
    for field in dataclasses.fields(command):
        hint = hints[field.name]
        markers = getattr(hint, "__metadata__", ())
        plain = get_args(hint)[0] if markers else hint
        words = "none" if plain is bool else "many" if get_origin(plain) is tuple else "one"
        is_positional = Positional in markers
        yield _Argument(field.name, "" if is_positional else "--" + field.name.replace("_", "-"), words)


def _options(arguments: Iterable[_Argument]) -> list[str]:
    return ["--help", *(a.option for a in arguments if a.option)]


def _ended_options(arguments: dict[str, list[_Argument]]) -> Iterator[str]:
    """Cases that forget an option whose values have all been given."""
    for command, some in arguments.items():
        for a in some:
            if a.option and a.words == "none":
                yield f'"{command} {a.option}") option= ;;'
            elif a.option and a.words == "one":
                yield f'"{command} {a.option}") [[ $before == "$option" ]] || option= ;;'


def _values(
    arguments: dict[str, list[_Argument]], experiments: list[Experiment], networks: list[str]
) -> Iterator[str]:
    """Cases over command, option and experiment; an argument of an experiment lists all until one is named."""
    for command, some in arguments.items():
        for a in some:
            start = f"{command} {a.option} "
            if a.words == "none":
                continue
            if a.name in OF_AN_EXPERIMENT and command in ("plan", "run"):
                of = OF_AN_EXPERIMENT[a.name]
                for e in experiments:
                    yield f'"{start}{e.name}") words={_quoted(of(e))} ;;'
                yield f'"{start}") words={_quoted(name for e in experiments for name in of(e))} ;;'
            elif a.name == "experiment":
                end = "*" if a.option else ""
                yield f'"{start}"{end}) words={_quoted(e.name for e in experiments)} ;;'
            elif choices := _choices(a.name, networks):
                yield f'"{start}"*) words={_quoted(choices)} ;;'


def _choices(name: str, networks: list[str]) -> Sequence[str]:
    if name == "network":
        return networks
    is_path = name in ("a", "b", "csv", "pdf", "step_times", "save_step_times") or name.endswith("_dir")
    return CHOICES.get(name, (FILES,) if is_path else ())


def _quoted(words: Iterable[Any]) -> str:
    return '"' + " ".join(dict.fromkeys(map(str, words))) + '"'


def _indented(spaces: int, lines: Iterable[str]) -> str:
    return "\n".join(" " * spaces + line for line in lines)
