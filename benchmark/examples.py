"""What the help of each command shows below its options: command lines that work."""

from collections.abc import Sequence

PROGRAM = "python -m benchmark"
EXAMPLES = {
    "plan": (
        "plan cifar",
        "plan cifar --profile short --only '*20*' --dataset cifar10+ --data-dir images.tar.gz",
        "plan cifar --devices 1 8 64 1000 --step-times gpu.csv    # made there by --save-step-times gpu.csv",
    ),
    "run": (
        "run cifar --profile short --seeds 0 1 2 --only '*20*' --dataset cifar10+ --data-dir images.tar.gz",
        "run imagenet --profile short --data-dir imagenette2 --only '*18*' --cache",
        "run cifar --engine ray --runs-per-gpu 4 --network cifar_hbnet20:reading=fixed_point,depth=26",
    ),
    "tables": (
        "tables cifar",
        "tables cifar --sort 'C10+ error mean' --descending",
    ),
    "report": ("report", "report --results-dir elsewhere"),
    "compare": (
        "compare results elsewhere/results",
        "compare HEAD~1 HEAD --experiment cifar",
        "compare main results --csv changes.csv",
    ),
    "speed": (
        "speed --only '*56' --pack 1 2 4 8",
        "speed --only 'imagenet_*' --batch-size 64",
        "speed --data-dir imagenette2 --feed 2500",
    ),
    "theory": ("theory --layers 60 --results-dir elsewhere",),
    "verify-paper": (
        "verify-paper",
        "verify-paper --pdf paper.pdf --write",
    ),
    "list": ("list",),
    "show": (
        "show cifar_hbnet20",
        "show cifar_hbnet20:depth=26,reading=fixed_point --size 64 --classes 100",
        "show imagenet_hbnet34",
    ),
    "completion": (
        "completion bash > ~/.oin.bash    # and in ~/.bashrc: source ~/.oin.bash",
        "completion zsh > ~/.oin.zsh      # and in ~/.zshrc: source ~/.oin.zsh",
    ),
}


def examples_of(arguments: Sequence[str]) -> str:
    """The examples of the command that these words ask for help on; nothing for other words."""
    lines = EXAMPLES.get(arguments[0], ()) if arguments else ()
    if not lines:
        return ""
    return "\n".join(["examples:", *(f"  {PROGRAM} {line}" for line in lines)]) + "\n"
