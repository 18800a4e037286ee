"""A tracer that knows the shape of every value, so that code which asks for shapes can be followed.

torch.fx alone gives up where a forward pass decides by a shape, and keeps heights and widths as values that go on with
the tensor. Here all sides but the first are plain numbers, for images of one size; the first, the batch's, stays open.
"""

import operator
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx import Graph, Node
from torch.overrides import TorchFunctionMode

from sweep.models.cuts.graph import FORM, OF_BATCH, VALUE, Tracer, batch_of, device_of
from sweep.models.cuts.packing import form

BATCH = 97  # images in the trace; no usual width is a multiple of it
_MAKERS = frozenset((torch.arange, torch.zeros, torch.ones, torch.full, torch.linspace, torch.eye))


class ShapedTracer(Tracer):
    """Trace a model on the device meta; the value of each step, on that device, is its node's meta[VALUE]."""

    proxy_buffer_attributes = True  # a buffer is looked up when the model runs, not copied

    def __init__(self, leaf: Callable[[nn.Module, str], bool], image_size: int) -> None:
        super().__init__(leaf)
        self._size = image_size
        self._plain = False  # whether a step is being computed, in which nothing is traced
        self._given: Iterator[Any] = iter(())  # the images and the arguments beside them, in order
        self._of_batch: dict[Callable[..., Any], fx.Proxy] = {}

    def trace(self, root: Any, concrete_args: dict[str, Any] | None = None) -> Graph:
        images = torch.empty(BATCH, 3, self._size, self._size, device="meta")
        self._given = iter((images, *(concrete_args or {}).values()))
        with _Makers(self), torch.no_grad():
            return super().trace(root, concrete_args)

    def proxy(self, node: Node) -> "ShapedProxy":
        return ShapedProxy(node, self)

    def call_module(self, m: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        return forward(*args, **kwargs) if self._plain else super().call_module(m, forward, args, kwargs)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        return attr_val if self._plain else super().getattr(attr, attr_val, parameter_proxy_cache)

    def create_proxy(self, kind: str, target: Any, args: Any, kwargs: Any, *more: Any, **options: Any) -> Any:
        made = super().create_proxy(kind, target, args, kwargs, *more, **options)
        values = _values_of((args, kwargs))
        with self.plain():
            value = made.node.meta[VALUE] = self._value(kind, target, *values)
        made.node.meta[FORM] = form(value, BATCH)
        return value if kind.startswith("call") and _is_fixed(value) and target not in OF_BATCH else made

    @contextmanager
    def plain(self) -> Iterator[None]:
        """Within this, modules compute as they do without a trace."""
        before, self._plain = self._plain, True
        try:
            yield
        finally:
            self._plain = before

    @property
    def is_plain(self) -> bool:
        return self._plain

    def _value(self, kind: str, target: Any, args: Any, kwargs: Any) -> Any:
        if kind == "placeholder":
            return next(self._given)
        if kind == "get_attr":
            found: Any = self.root
            for step in target.split("."):
                found = getattr(found, step)
            return found
        if kind == "call_module":
            return self.root.get_submodule(target)(*args, **kwargs)
        if kind == "call_method":
            return getattr(args[0], target)(*args[1:], **kwargs)
        return target(*args, **kwargs) if kind == "call_function" else args[0]

    def of_batch(self, ask: Callable[[Tensor], Any]) -> fx.Proxy:
        """Return what all tensors of a batch share: how many images there are, and where they are computed."""
        if ask not in self._of_batch:
            images = next(iter(self.graph.nodes))
            self._of_batch[ask] = self.create_proxy("call_function", ask, (fx.Proxy(images, self),), {})
        return self._of_batch[ask]


class ShapedProxy(fx.Proxy):
    """A value of the trace; asked for its shape it gives numbers, and a condition on numbers can be decided."""

    tracer: ShapedTracer

    @property
    def value(self) -> Any:
        return self.node.meta[VALUE]

    def __getattr__(self, name: str) -> Any:
        value = self.node.meta.get(VALUE)
        if isinstance(value, Tensor):
            if name == "shape":
                return self._shape()
            if name in ("ndim", "is_cuda", "layout", "requires_grad"):
                return getattr(value, name)
            if name == "device":
                return self.tracer.of_batch(device_of)
            if name in ("dim", "ndimension", "numel", "is_contiguous", "is_floating_point", "stride") and not (
                name == "numel" and value.shape[:1] == (BATCH,)
            ):
                return getattr(value, name)
            if name == "size":
                return lambda dim=None: self._shape() if dim is None else self._shape()[dim]
        return super().__getattr__(name)

    def _shape(self) -> tuple[Any, ...]:
        first, *rest = self.value.shape or (None,)
        if first is None:
            return ()
        if first == BATCH:
            first = self.tracer.of_batch(batch_of)
        elif first % BATCH == 0:
            first = self.tracer.create_proxy("call_function", batch_of, (self,), {})
        return (first, *rest)

    def __len__(self) -> int:
        return len(self.value)

    def __iter__(self) -> Iterator[Any]:
        return (operator.getitem(self, each) for each in range(len(self.value)))

    def __bool__(self) -> bool:
        return bool(self.value) if isinstance(self.value, bool | int | float) else super().__bool__()


class _Makers(TorchFunctionMode):
    """Within this, tensors that the forward pass makes of nothing are steps of the trace."""

    def __init__(self, tracer: ShapedTracer) -> None:
        super().__init__()
        self._tracer = tracer

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func in _MAKERS and not self._tracer.is_plain:
            kwargs["device"] = kwargs.get("device") or self._tracer.of_batch(device_of)
            return self._tracer.create_proxy("call_function", func, args, kwargs)
        return func(*args, **kwargs)


def _values_of(each: Any) -> Any:
    """Return arguments of a step with values in place of proxies."""
    if isinstance(each, fx.Proxy):
        return each.node.meta[VALUE]
    if isinstance(each, dict):
        return {key: _values_of(value) for key, value in each.items()}
    if isinstance(each, slice):
        return slice(*map(_values_of, (each.start, each.stop, each.step)))
    if isinstance(each, tuple) and hasattr(each, "_fields"):
        return type(each)(*map(_values_of, each))
    return type(each)(map(_values_of, each)) if isinstance(each, list | tuple) else each


def _is_fixed(value: Any) -> bool:
    """Return whether this is a number, or numbers, that the size of the batch does not change."""
    if isinstance(value, list | tuple):
        return all(map(_is_fixed, value))
    return isinstance(value, bool | float | str | None) or (isinstance(value, int) and value % BATCH != 0)
