"FlowTok: text and image as short token sequences, and a flow that carries one into the other."
__version__ = "0.1.0"


def load(model, device="auto", dtype="float32", revision=None, cache_dir=None, clip=None):
    "The pipeline called `model`: see `flowtok.pipeline.load`."
    from flowtok.pipeline import load as load_pipeline
    return load_pipeline(model, device, dtype, revision, cache_dir, clip)
