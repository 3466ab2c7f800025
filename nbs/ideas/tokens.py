"""Which image tokens suit a flow? Channels, tokens, no grid, a teacher (notebook 37_tokens).

flowtok-study ideas/tokens.py --seeds 0
"""
from flowtok.experiments.tokens import first_tokens_first
from flowtok.experiments.tokens import tokens_row as row

WIDE = {"tokenizer.latent_dim": 32}

IDEAS = {
    "16 tokens of 16 numbers": {},
    "16 of 8": dict(change={"tokenizer.latent_dim": 8}),
    "16 of 32": dict(change=WIDE),
    "32 of 8": dict(change={"tokenizer.n_tokens": 32, "tokenizer.latent_dim": 8}),
    "patches of 4 pixels": dict(change={"tokenizer.patch_size": 4}),
    "first tokens first": dict(edit=first_tokens_first),
    "aligned 0.003": dict(teacher="captions", weight=0.003),
    "aligned 0.03": dict(teacher="captions", weight=0.03),
    "aligned 0.03, whole": dict(teacher="captions", weight=0.03, whole=True),
    "aligned 0.03, untrained teacher": dict(teacher="untrained", weight=0.03),
    "16 of 32, aligned 0.03": dict(change=WIDE, teacher="captions", weight=0.03),
    "16 of 32, aligned 0.03, DINOv2": dict(change=WIDE, teacher="DINOv2", weight=0.03),
}
