"""What training sums up between two lines of its log."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor


@dataclass
class StepStatistics:
    """Sums over the steps since the last line of the log."""

    steps: int = 0
    """Finished steps."""
    images: int = 0
    """Images in their batches."""
    total: float = 0.0
    """Weighted losses of all phases."""
    raw: dict[str, float] = field(default_factory=dict[str, float])
    """Unweighted losses."""
    counts: dict[str, int] = field(default_factory=dict[str, int])
    """How often each loss came up."""
    gradient_norms: dict[str, list[float]] = field(default_factory=dict[str, list[float]])
    """Norms of the gradients by phase."""
    learning_rates: dict[str, float] = field(default_factory=dict[str, float])
    """The last learning rates by phase."""
    times: dict[str, float] = field(default_factory=dict[str, float])
    """Seconds by part of the step."""

    def add(self, name: str, value: float) -> None:
        """Add one step's mean of a loss."""
        self.raw[name] = self.raw.get(name, 0.0) + value
        self.counts[name] = self.counts.get(name, 0) + 1

    def add_losses(
        self,
        label: str,
        means: Mapping[str, Tensor],
        sources: Sequence[str],
        values: Sequence[Mapping[str, Tensor]],
    ) -> None:
        """Add the losses of a phase, over all images and by source.

        Args:
            label: before the names of the losses, such as "critic/", or nothing.
            means: over all images.
            sources: names of the sources.
            values: per image, for each source.
        """
        for name, mean in means.items():
            self.add(label + name, float(mean.detach()))
        for source, of_source in zip(sources, values, strict=True):
            for name, value in of_source.items():
                self.add(f"{source}/{label}{name}", float(value.detach().mean()))

    def spend(self, name: str, seconds: float) -> None:
        """Add time to a part of the step."""
        self.times[name] = self.times.get(name, 0.0) + seconds

    def means(self) -> dict[str, float]:
        """Return the mean of each loss."""
        return {name: value / self.counts[name] for name, value in sorted(self.raw.items())}

    def phase_lines(self) -> dict[str, dict[str, Any]]:
        """Return mean gradient norm and learning rate of each phase."""
        return {
            name: {
                "gradient_norm": sum(norms) / len(norms),
                "learning_rate": self.learning_rates[name],
            }
            for name, norms in self.gradient_norms.items()
        }
