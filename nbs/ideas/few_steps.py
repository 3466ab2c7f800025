"""How few steps does the flow need? Solvers, mean velocities and distillation (notebook 35).

flowtok-study ideas/few_steps.py
"""
from flowtok.experiments.few_steps import bundled_weights, learn_intervals, mean_flow
from flowtok.experiments.few_steps import few_row as row
from flowtok.experiments.few_steps import start_from_bundled
from flowtok.model import FlowParts

MEAN = FlowParts(network=mean_flow())
SLOWER = {"train_flow.lr": 5e-4, "train_flow.muon_lr": 1.3e-3, "train_flow.easy": 0.0}

IDEAS = {
    "the bundled flow": {},
    "a flow, from nothing": dict(change={}),
    "a flow, from the flow": dict(edit=bundled_weights, change=SLOWER),
    "mean velocity, from nothing": dict(edit=learn_intervals, parts=MEAN),
    "mean velocity, from the flow": dict(edit=start_from_bundled, parts=MEAN, change=SLOWER),
    "distilled": dict(paths=4000, change=SLOWER),
}
