"""What figures of any kind have in common."""

LABEL = "net:table=$x^$ [b].csv"


def test_names_with_two_dollars_are_shown_as_they_are(results, add_run, report, figures):
    """They are no formulas, while powers of ten at an axis are."""
    names = [f"blocks.0.table.{k}" for k in range(3)]
    traces = {
        "coefficients": {name: {"start": [0.1] * (k + 1), "end": [0.2] * (k + 1)} for k, name in enumerate(names)},
        "gradient_norms": {f"conv{i}": {"start": 10.0**-i, "end": 1.0} for i in range(5)},
    }
    for seed in (0, 1):
        for row in ("cifar_densenet40", LABEL):
            add_run(row, 5.0 + seed, seed=seed, data="a $x^$ b", **traces)
    code, (_, err), page = report()
    assert (code, err) == (0, "")
    assert LABEL in page
    texts = [
        text for figure in figures for text in figure.findobj(lambda artist: hasattr(artist, "get_parse_math"))
    ]
    shown = [text.get_text() for text in texts if "$" in text.get_text()]
    assert sum("a $x^$ b" in text for text in shown) == len(figures)
    assert LABEL in shown
    assert any("mathdefault" in text for text in shown)
