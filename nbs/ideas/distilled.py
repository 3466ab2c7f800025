"""Does a student that is taught four times as long, on four times as many paths, need two steps only? (notebook 35)

flowtok-study ideas/distilled.py --seeds 0 --steps 6000
"""
from flowtok.experiments.few_steps import few_row as row

IDEAS = {
    "distilled, 16,000 paths": dict(paths=16_000, change={"train_flow.lr": 5e-4,
                                                          "train_flow.muon_lr": 1.3e-3}),
}
