"""What a KubeletConfiguration says of eviction."""

from __future__ import annotations

from dataclasses import dataclass

from agents.config import Configuration, ConfigurationError
from agents.eviction.thresholds import Threshold, ThresholdError, parse_thresholds


@dataclass(frozen=True, slots=True)
class Settings:
    """``transition`` is how long a condition outlives its cause; ``longest_grace`` bounds what pods are given to end
    at soft thresholds. Both are seconds."""

    thresholds: tuple[Threshold, ...]
    transition: float = 300.0
    longest_grace: float = 0.0
    local_storage: bool = True
    """Whether limits on local storage are enforced."""

    @classmethod
    def of(cls, configuration: Configuration) -> Settings:
        """Raises ``ConfigurationError``."""
        try:
            thresholds = parse_thresholds(
                hard=configuration.eviction_hard,
                soft=configuration.eviction_soft,
                soft_grace=configuration.eviction_soft_grace_period,
                min_reclaim=configuration.eviction_minimum_reclaim,
                enforce=configuration.enforce_node_allocatable,
                merge_defaults=configuration.merge_default_eviction_settings,
            )
        except ThresholdError as error:
            raise ConfigurationError(f"evictionHard, evictionSoft or what belongs to them: {error}") from error
        if configuration.eviction_pressure_transition_period < 0:
            raise ConfigurationError("evictionPressureTransitionPeriod: must not be negative")
        return cls(
            thresholds=thresholds,
            transition=configuration.eviction_pressure_transition_period or 300.0,
            longest_grace=float(configuration.eviction_max_pod_grace_period),
            local_storage=configuration.local_storage_capacity_isolation,
        )
