"""Does it help to look closely at the start of the path, or to forgive what is far off?

flowtok-study ideas/example.py
"""
import torch.nn.functional as F

from flowtok.core import rand
from flowtok.model import FlowParts, Pairs


def early(p: Pairs):
    "Times (b,): squares of uniform ones, half of them before a quarter of the way."
    return rand(len(p.image), generator=p.generator, device=p.image.device).square()


def huber(p: Pairs):
    "Huber's loss (b,): squared up to an error of 1, straight beyond."
    return F.huber_loss(p.answer, p.velocity, reduction="none").flatten(1).mean(1)


IDEAS = {
    "as it is": {},
    "early times": dict(parts=FlowParts(times=early)),
    "Huber": dict(parts=FlowParts(loss=huber)),
    "six blocks": dict(change={"flow.depth": 6}),
}
