"""Tensor types that carry their axes, e.g. `Float[Tensor, "layer head sample d_head"]`.

With jaxtyping installed (the test run) they are checked at every call; without it they are plain
names, so the core needs no more than torch. One vocabulary of axes is used everywhere:
`layer head sample position token vocab d_head d_model atom step row`.
"""

from typing import TYPE_CHECKING, Any

from torch import Tensor

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int
else:
    try:
        from jaxtyping import Bool, Float, Int
    except ImportError:

        class _Unchecked:
            def __class_getitem__(cls, item: Any) -> Any:
                return item[0]

        Bool = Float = Int = _Unchecked

__all__ = ["Bool", "Float", "Int", "Tensor"]
