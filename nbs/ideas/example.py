"""Does it help to look closely at the start of the path, to forgive what is far off, or to take the nearest image?

flowtok-study ideas/example.py
"""
from dataclasses import replace

import torch
import torch.nn.functional as F

from flowtok.core import rand
from flowtok.model import FlowParts, Pairs, own_image, straight


def early(p: Pairs):
    "Times (b,): squares of uniform ones, half of them before a quarter of the way."
    return rand(len(p.image), generator=p.generator, device=p.image.device).square()


def huber(p: Pairs):
    "Huber's loss (b,): squared up to an error of 1, twice the error less one beyond."
    return 2*F.huber_loss(p.answer, p.velocity, reduction="none").flatten(1).mean(1)


def nearest(p: Pairs):
    "Of the images of a caption the one nearest to its source: optimal transport that keeps the meaning."
    images = torch.cat([p.image[:, None], p.others], 1)  # (b,k+1,n,d)
    far = (images - p.source[:, None]).square().flatten(2).mean(2)
    far = far.masked_fill(F.pad(p.missing, (1, 0)), torch.inf)
    return own_image(replace(p, image=images[torch.arange(len(far)), far.argmin(1)]))


def alone(p: Pairs):
    "The straight path to the target itself, not to the expected end."
    return straight(replace(p, others=None))


IDEAS = {
    "as it is": {},
    "early times": dict(parts=FlowParts(times=early)),
    "Huber": dict(parts=FlowParts(loss=huber)),
    "one end": dict(parts=FlowParts(path=alone)),
    "the nearest image": dict(parts=FlowParts(couple=nearest, path=alone)),
    "six blocks": dict(change={"flow.depth": 6}),
}
