"""Can one network draw and caption as well as two? (notebook 39)

flowtok-study ideas/both_directions.py --seeds 0 --seconds 300
"""
from flowtok.experiments.both_directions import both_row as row

IDEAS = {
    "two networks": dict(way="two networks"),
    "one network, a bit": dict(way="one network"),
    "one network, a bit, cycle 0.1": dict(way="one network", cycle=0.1),
    "one network, two times": dict(way="two times"),
}
