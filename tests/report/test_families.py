from benchmark.experiments.cifar import EXPERIMENT
from benchmark.report.families import RowFamily, beside, families
from benchmark.report.sections import read_sections


def test_rows_go_beside_their_baseline_and_those_beside_nothing_together(results, add_run):
    rows = ["cifar_resnet56", "cifar_resnet20", "cifar_hbnet20", "cifar_agdresnet20", "cifar_hbnet20-fixed_point"]
    for row in rows:
        add_run(row)
    (section,) = read_sections(EXPERIMENT, results)
    found = families(section, section.rows)
    assert found == [
        RowFamily("cifar_resnet20", ["cifar_resnet20", "cifar_hbnet20", "cifar_agdresnet20"]),
        RowFamily(None, ["cifar_resnet56", "cifar_hbnet20-fixed_point"]),
    ]
    assert families(section, ["cifar_hbnet20", "cifar_agdresnet20"]) == [
        RowFamily(None, ["cifar_hbnet20", "cifar_agdresnet20"])
    ]
    assert [beside(section, family) for family in found] == [", beside ResNet-20", ""]
