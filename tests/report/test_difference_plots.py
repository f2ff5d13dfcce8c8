from matplotlib.figure import Figure

from benchmark.experiments.cifar import EXPERIMENT
from benchmark.report.difference_plots import write_differences


def test_without_a_baseline_there_is_nothing_to_draw(results, add_run):
    add_run("cifar_resnet20")
    assert write_differences(EXPERIMENT, results) == []


def test_points_and_intervals_are_the_tables(results, add_run, figures):
    for seed, theirs in enumerate([5.0, 5.1, 5.2]):
        add_run("cifar_resnet20", theirs, seed=seed)
        add_run("cifar_hbnet20", 4.0, seed=seed)
    add_run("cifar_agdresnet20", 6.0, seed=0)
    paths = write_differences(EXPERIMENT, results)
    assert [path.name for path in paths] == ["cifar-differences-paper.svg", "cifar-differences-paper.png"]
    (figure,) = figures
    assert isinstance(figure, Figure)
    (ax,) = figure.axes
    assert [label.get_text() for label in ax.get_yticklabels()] == [
        "HB-Net-20\n− ResNet-20",
        "Nesterov-20\n− ResNet-20",
    ]
    interval, mean, alone, _zero = ax.lines
    assert [round(x, 2) for x in interval.get_xdata()] == [-1.35, -0.85]
    assert round(mean.get_xdata()[0], 2) == -1.1
    assert alone.get_markerfacecolor() == "white"
    before = [path.read_bytes() for path in paths]
    assert [path.read_bytes() for path in write_differences(EXPERIMENT, results)] == before


def test_a_large_difference_does_not_hide_the_others(results, add_run, figures):
    for seed, (error, scale) in enumerate(((14.0, "linear"), (100.0, "symlog"))):
        add_run("cifar_resnet20", 5.0, seed=seed)
        add_run("cifar_hbnet20", error, seed=seed)
        write_differences(EXPERIMENT, results)
        (ax,) = figures[-1].axes
        assert ax.get_xscale() == scale
        (low, high), drawn = ax.get_xlim(), [x for line in ax.lines for x in line.get_xdata()]
        assert low < min(drawn)
        assert max(drawn) < high
