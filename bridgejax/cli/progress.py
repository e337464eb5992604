"""A progress bar over ``fit``: loss, steps per second, time left."""

from __future__ import annotations

from bridgejax.training import Info


class Bar:
    """A ``fit`` callback; made before training so that compiling is seen to be work."""

    def __init__(self, steps: int) -> None:
        try:
            from tqdm import tqdm
        except ImportError:
            raise ImportError("the command line needs its extra: pip install 'bridgejax[run]'") from None
        self._bar = tqdm(total=steps, desc="compiling", unit="step", dynamic_ncols=True)

    def __call__(self, info: Info) -> None:
        """Show one line of the metrics."""
        self._bar.set_description("training", refresh=False)
        self._bar.set_postfix(loss=f"{info.metrics['loss']:.4f}", refresh=False)
        self._bar.update(info.step - self._bar.n)

    def close(self) -> None:
        """Leave the bar as it stands."""
        self._bar.close()
