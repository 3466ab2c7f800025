"""How few steps does the flow need? Solvers, mean velocities and distillation (notebook 35).

flowtok-study ideas/few_steps.py --seeds 0
"""
from flowtok.experiments.few_steps import FEW as IDEAS
from flowtok.experiments.few_steps import few_row as row
