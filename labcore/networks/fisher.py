"""How much each weight matters: the diagonal of the Fisher information of a classifier.

Formula  F_i = mean over images x of E_y (∂ log p(y|x) / ∂θ_i)²
Sources  Kirkpatrick et al. 2017, arXiv 1612.00796; which y: Kunstner et al. 2019, arXiv 1905.12558

The gradient of each single image is squared, so a batch's summed gradient is of no use. But what makes up an image's
gradient passes by in an ordinary batch: a layer's input and the gradient at its output, for all images at once. From
both, the rules in `squared_gradients` compute a layer's squares, and its ordinary weight gradient need not be computed.

Every weight that is asked for still requires its ordinary gradient, except inside the call of a layer that a rule
covers: whatever gradient remains tells of a use that the rules miss. In that case, and where a layer is used twice, the
whole network is measured one image at a time.
"""

import logging
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.hooks import RemovableHandle

from labcore.networks import torchvision_beside
from labcore.networks.squared_gradients import Rule, Squares, rule_for

torchvision_beside.make_importable()
log = logging.getLogger(__name__)

Kind = Literal["sampled", "empirical", "exact"]

# A chunk holds at most this many images, and at most this many numbers in its images. Their activations hold some
# hundred times as many numbers.
MOST_IMAGES = 64
CHUNK_NUMBERS = 64 * 3 * 64 * 64


def fisher_diagonal(
    model: nn.Module,
    images: Tensor,
    labels: Tensor | None = None,
    kind: Kind = "sampled",
    generator: torch.Generator | None = None,
    *,
    names: Collection[str] | None = None,
    chunk: int | None = None,
) -> dict[str, Tensor]:
    """The mean over images of the squared per-image gradients of log p(y|x), for each weight.

    `model` maps images [N, …] to logits [N, classes], each image by itself; dimension 0 counts images in every layer.
    It is measured in evaluation mode, and left as it was: modes, `requires_grad`, gradients, hooks, buffers. It may
    replace weights with others by `torch.func.functional_call`; a replaced weight counts only as far as the output
    depends on it.

    kind       whose y: `sampled`, one draw an image from the model's own p(y|x); `exact`, the expectation over all
               classes, a backward pass each; `empirical`, the given `labels`, which is not the true Fisher
    labels     [N] whole numbers from 0; needed for `empirical`, else not looked at
    generator  (CPU) gives one uniform number an image, in their order, for `sampled`; None: torch's global one
    names      the parameters wanted, by their `named_parameters` name; None: all, whatever their `requires_grad`
    chunk      images at a time, which decides the memory and not the result; None: by the size of an image

    Returns F ≥ 0 by name, in `named_parameters`' order, shape, type and device of the parameter, in units of
    1/parameter²; zeros where the logits do not depend on the parameter. Raises ValueError for an unknown kind, for no
    images, for labels that are missing, misshapen or no class, for logits that are not [N, classes] and for a chunk
    below 1; KeyError for a name that is no parameter.

    Source: Kirkpatrick et al. 2017, arXiv 1612.00796; kinds: Kunstner et al. 2019, arXiv 1905.12558.
    """
    if chunk is None:
        chunk = min(MOST_IMAGES, max(1, CHUNK_NUMBERS * len(images) // max(1, images.numel())))
    if chunk < 1:
        raise ValueError(f"chunk is {chunk}; it must be at least 1")
    question = _Question(images, labels, kind, generator)
    wanted = _wanted(model, names)
    with _left_as_it_was(model, wanted):
        try:
            sums = _by_layer(model, wanted, question, chunk)
        except _NotByLayerError as reason:
            log.warning("Fisher diagonal one image at a time, which is slow: %s", reason)
            sums = _by_image(model, wanted, question)
    return {name: value.div_(len(images)) for name, value in sums.items()}


def fisher_diagonal_by_image(
    model: nn.Module,
    images: Tensor,
    labels: Tensor | None = None,
    kind: Kind = "sampled",
    generator: torch.Generator | None = None,
    *,
    names: Collection[str] | None = None,
) -> dict[str, Tensor]:
    """What `fisher_diagonal` says, by a forward and backward pass for each image: slow, and right for any network.

    Arguments, result and errors are those of `fisher_diagonal`, and so are the labels drawn.
    """
    question = _Question(images, labels, kind, generator)
    wanted = _wanted(model, names)
    with _left_as_it_was(model, wanted):
        sums = _by_image(model, wanted, question)
    return {name: value.div_(len(images)) for name, value in sums.items()}


# ---------------------------------------------------------------------------------------------------------------------
# What is asked
# ---------------------------------------------------------------------------------------------------------------------


class _Question:
    """What is asked of a model: on which images, and about whose labels."""

    def __init__(self, images: Tensor, labels: Tensor | None, kind: str, generator: torch.Generator | None) -> None:
        if kind not in get_args(Kind):
            raise ValueError(f"no kind of Fisher is called {kind}; choose one of {', '.join(get_args(Kind))}")
        if not len(images):
            raise ValueError("no images to measure the Fisher diagonal on")
        if kind == "empirical":
            if labels is None:
                raise ValueError("the empirical Fisher needs labels")
            if labels.shape != images.shape[:1]:
                raise ValueError(f"labels are [N], one for each of {len(images)} images, not {list(labels.shape)}")
        self.images, self.labels, self.kind = images.detach(), labels, kind
        # Drawn before anything else, so that neither chunks nor the way of computing change what is drawn.
        sampled = kind == "sampled"
        self.draws = torch.rand(len(images), generator=generator, dtype=torch.float64) if sampled else None

    def answers(self, logits: Tensor, part: slice) -> Iterator[Tensor]:
        """Give ∂ log p(y|x) / ∂logits, [N, C], for each y that counts, times the root of its weight.

        Because of the root, the squares come out weighted.
        """
        count = len(self.images[part])
        if logits.ndim != 2 or len(logits) != count:
            raise ValueError(f"logits are [N, classes] for {count} images, not {list(logits.shape)}")
        p = logits.detach().softmax(1)
        if self.kind == "exact":
            for label in range(p.shape[1]):  # Σ_y p_y (∂ log p_y)² = Σ_y (√p_y ∂ log p_y)²
                yield (F.one_hot(torch.tensor(label), p.shape[1]).to(p) - p) * p[:, label, None].sqrt()
            return
        if self.draws is not None:  # the first class whose cumulated probability exceeds the uniform number
            draws = self.draws[part, None].to(p.device)
            labels = (p.double().cumsum(1) <= draws).sum(1).clamp(max=p.shape[1] - 1)
        else:
            assert self.labels is not None
            labels = self.labels[part].to(p.device, torch.int64)
            if labels.min() < 0 or labels.max() >= p.shape[1]:
                raise ValueError(f"a label is none of the classes 0 to {p.shape[1] - 1}")
        yield F.one_hot(labels, p.shape[1]).to(p) - p


def _wanted(model: nn.Module, names: Collection[str] | None) -> dict[str, nn.Parameter]:
    """The parameters to measure, by name, in the model's order."""
    parameters = dict(model.named_parameters())
    if names is None:
        return parameters
    if unknown := sorted(set(names) - parameters.keys()):
        raise KeyError(f"the model has no parameter {', '.join(unknown)}")
    return {name: parameter for name, parameter in parameters.items() if name in set(names)}


@contextmanager
def _left_as_it_was(model: nn.Module, wanted: dict[str, nn.Parameter]) -> Iterator[None]:
    """For the block, put the model in evaluation mode, with gradients for the wanted parameters only.

    Afterwards everything is as it was before.
    """
    modes = [(module, module.training) for module in model.modules()]
    flags = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    buffers = [
        (module, name, buffer, buffer._version, buffer.clone())
        for module in model.modules()
        for name, buffer in module._buffers.items()
        if buffer is not None
    ]
    try:
        for module, _ in modes:
            module.training = False
        for parameter, _ in flags:
            parameter.requires_grad_(False)
        for parameter in wanted.values():
            parameter.requires_grad_(True)
        with torch.enable_grad():
            yield
    finally:
        for module, mode in modes:
            module.training = mode
        for parameter, flag in flags:
            parameter.requires_grad_(flag)
        for module, name, buffer, version, copy in buffers:
            module._buffers[name] = buffer
            if buffer._version != version:  # no standard module writes to its buffers in evaluation mode
                with torch.no_grad():
                    buffer.copy_(copy)


# ---------------------------------------------------------------------------------------------------------------------
# One image at a time
# ---------------------------------------------------------------------------------------------------------------------


def _by_image(model: nn.Module, wanted: dict[str, nn.Parameter], question: _Question) -> dict[str, Tensor]:
    """Sums over images of squared gradients, by name."""
    sums = {name: torch.zeros_like(parameter, requires_grad=False) for name, parameter in wanted.items()}
    for index in range(len(question.images)):
        part = slice(index, index + 1)
        logits = model(question.images[part])
        for answer in question.answers(logits, part):
            gradients = _gradients(logits, list(wanted.values()), answer, question.kind == "exact")
            for total, gradient in zip(sums.values(), gradients, strict=True):
                if gradient is not None:
                    total.addcmul_(gradient, gradient)
    return sums


def _gradients(logits: Tensor, of: list[Tensor], answer: Tensor, again: bool) -> tuple[Tensor | None, ...]:
    """The gradient of Σ logits · answer by each tensor; None for a tensor that the logits do not depend on.

    Where `again` is true, what another answer needs is kept, which takes memory.
    """
    if not logits.requires_grad or not of:
        return (None,) * len(of)
    return torch.autograd.grad(logits, of, answer, retain_graph=again, allow_unused=True)


# ---------------------------------------------------------------------------------------------------------------------
# All images at once, layer by layer
# ---------------------------------------------------------------------------------------------------------------------


class _NotByLayerError(Exception):
    """The network does something that no rule covers; the message says where."""


def _by_layer(model: nn.Module, wanted: dict[str, nn.Parameter], question: _Question, chunk: int) -> dict[str, Tensor]:
    """Sums over images of squared gradients, by name. Raises _NotByLayerError where the rules do not suffice."""
    for name, module in model.named_modules():
        if isinstance(module, _BatchNorm) and module.running_mean is None:
            raise _NotByLayerError(f"{name or 'the model'} has no statistics, so an image depends on its batch")
    with ExitStack() as hooks:
        watch = _Watch(model, wanted, hooks)
        for start in range(0, len(question.images), chunk):
            watch.measure(question, slice(start, start + chunk))
    return watch.sums


class _Watch:
    """Hooks on the layers that own wanted parameters, which add up squares in `sums` while gradients pass.

    A backward pass has to reach as far as `entries`, on which the outputs of the first such layers depend. Nothing
    before them needs a gradient.
    """

    def __init__(self, model: nn.Module, wanted: dict[str, nn.Parameter], hooks: ExitStack) -> None:
        self.model, self.wanted = model, wanted
        self.sums = {name: torch.zeros_like(parameter, requires_grad=False) for name, parameter in wanted.items()}
        self.entries: list[Tensor] = []
        self.count = 0  # the number of images in this chunk
        self.layers: list[_Layer] = []
        names = {id(parameter): name for name, parameter in wanted.items()}
        for path, module in model.named_modules():
            own = {part: names.get(id(module._parameters.get(part)), "") for part in ("weight", "bias")}
            own = {part: name for part, name in own.items() if name}
            rule = rule_for(module)
            if not own or rule is None:
                continue
            for other in self.layers:
                if shared := set(own.values()) & set(other.own.values()):
                    raise _NotByLayerError(f"{path} shares {', '.join(sorted(shared))} with another layer")
            self.layers.append(_Layer(self, path or "the model", module, own, rule))
            hooks.callback(self.layers[-1].unhook)

    def measure(self, question: _Question, part: slice) -> None:
        """Add the squares of some images. Where it raises _NotByLayerError, `sums` is spoilt."""
        images = question.images[part]
        self.count, self.entries = len(images), []
        for layer in self.layers:
            layer.called = False
        logits = self.model(images)
        for answer in question.answers(logits, part):
            gradients = _gradients(logits, [*self.wanted.values(), *self.entries], answer, question.kind == "exact")
            for name, gradient in zip(self.wanted, gradients, strict=False):
                if gradient is not None:
                    raise _NotByLayerError(f"there is no rule for the layer that uses {name}")


class _Entry(torch.autograd.Function):
    """Make a tensor require its gradient from here on, without a copy. Unlike a leaf, it may still be written to."""

    @staticmethod
    def forward(ctx: Any, entry: Tensor, z: Tensor) -> Tensor:
        ctx.mark_dirty(z)
        return z

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[None, None]:
        return None, None


class _Layer:
    """A layer that a rule covers, and what it does around a call.

    `own` says which of its weights are wanted: it maps "weight" and "bias" to names in the model.
    """

    def __init__(self, watch: _Watch, path: str, module: nn.Module, own: dict[str, str], rule: Rule) -> None:
        self.watch, self.path, self.module, self.own, self.rule = watch, path, module, own, rule
        self.called = False
        self.live: dict[str, str] = {}  # the part of `own` that this call uses: an overlay may replace the rest
        self.squares: Squares | None = None
        # What other people's hooks do belongs to the network: ours come last on the way in and first on the way out.
        self.handles: list[RemovableHandle] = [
            module.register_forward_pre_hook(self.enter, with_kwargs=True),
            module.register_forward_hook(lambda _, args, z: self.leave(z), prepend=True),
        ]

    def unhook(self) -> None:
        for handle in self.handles:
            handle.remove()

    def _weights(self) -> Iterator[nn.Parameter]:
        return (self.watch.wanted[name] for name in self.live.values())

    def enter(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Build the rule on the input and the state of this call, and switch ordinary gradients off."""
        wanted = self.watch.wanted
        self.live = {part: name for part, name in self.own.items() if getattr(module, part) is wanted[name]}
        if not torch.is_grad_enabled():  # the logits do not depend on this call's weights
            self.live = {}
        if not self.live:
            return
        if self.called:
            raise _NotByLayerError(f"{self.path} is used twice")
        self.called = True
        x: Tensor = next(iter((*args, *kwargs.values()))).detach()
        if x.ndim < 2 or len(x) != self.watch.count:
            raise _NotByLayerError(f"{self.path} gets {list(x.shape)} for {self.watch.count} images")
        squares, version = self.rule(module, x.to(next(self._weights()).dtype)), x._version

        def checked(part: str, g: Tensor) -> Tensor:
            if x._version != version:
                raise _NotByLayerError(f"{self.path}'s input is written to after it was used")
            return squares(part, g)

        self.squares = checked
        for weight in self._weights():
            weight.requires_grad_(False)

    def leave(self, z: Tensor) -> Tensor:
        """Wait for the gradient at the output, and switch ordinary gradients on again."""
        if self.squares is None:
            return z
        squares, self.squares = self.squares, None
        live, sums = self.live, self.watch.sums
        for weight in self._weights():
            weight.requires_grad_(True)
        if z._is_view():  # an activation in place would cut our hook off
            z = z.clone()
        if not z.requires_grad:
            self.watch.entries.append(torch.zeros((), requires_grad=True))
            z = _Entry.apply(self.watch.entries[-1], z)  # type: ignore[no-untyped-call]

        def add(g: Tensor) -> None:
            for part, name in live.items():
                sums[name] += squares(part, g.to(sums[name].dtype))

        z.register_hook(add)  # type: ignore[no-untyped-call]
        return z
