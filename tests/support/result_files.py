"""Small result files with known populations, and the verdicts on them."""

from benchmarks.record import save, summary
from benchmarks.report import claims
from benchmarks.report.claims.judging import Results


def population(mean, spread=0.01, count=20):
    """A population whose values are spread evenly around `mean`."""
    return summary([mean + spread * (place - (count - 1) / 2) / count for place in range(count)])


def write(folder, table, key, results, **config):
    """Write a result file of a measurement at small scale."""
    config = {"table": table, "key": key, "scale": "small", "epochs": [1, 25], **config}
    save(f"{table}-{key}-{config['scale']}", "python", config, results, 0.0, folder)


def write_table1(folder, scale, **means):
    """Write Table 1 of SVHN with a population for each row, at epochs 0 and 1."""
    rows = {name.replace("_", " "): {"0": population(mean), "1": population(mean)} for name, mean in means.items()}
    write(folder, "table1", "svhn", {"rows": rows}, scale=scale, epochs=[1, 25, 50])


def verdicts(folder, where, words=""):
    """Return text -> verdict of the claims about `where` whose text contains `words`."""
    found = claims.claims(Results(folder))
    return {claim.text: claim.holds for claim in found if claim.where == where and words in claim.text}
