"""What each node alone says to pods of one shape: whether it takes one, and how good it is.

Most rules look at nothing but a node and its pods. What they say together is one number a node, kept until that node
changes; so the next pod of a template costs a look at the node that the last one went to, and the search for the
largest number. Rules that look around (spreading, affinity to pods) are asked for each pod, by `decision`.
"""

from __future__ import annotations

import math
from functools import partial

import numpy as np

from orca.scheduler.filters import Task
from orca.scheduler.profile import Profile
from orca.scheduler.snapshot import Floats, Rows, Snapshot

NO = -1.0
"""Of a node that does not take the pod. All points are 0 or more."""
ONE_BY_ONE = 32
"""So many rows are looked at one by one; for more, numpy is faster."""


def standing(task: Task, snapshot: Snapshot, profile: Profile) -> Floats:
    """For each row the weighted points of the scores that look at a node alone, or `NO`. Not to be written to."""
    return snapshot.kept(task.shape, profile, partial(_points, task, snapshot, profile))


def _points(task: Task, snapshot: Snapshot, profile: Profile, rows: Rows) -> Floats:
    if len(rows) <= ONE_BY_ONE:
        return np.fromiter((point_of(task, snapshot, profile, slot) for slot in rows.tolist()), float, len(rows))
    rules, rates = profile.alone
    fits = snapshot.alive.copy()
    for rule in rules:
        for failure in rule.check(task, snapshot, fits):
            fits = fits & ~failure.nodes
    points: Floats = np.zeros(len(rows))
    for weight, rate in rates:
        points += weight * np.floor(rate.rows(task, snapshot, rows))
    return np.where(fits[rows], points, NO)


def point_of(task: Task, snapshot: Snapshot, profile: Profile, slot: int) -> float:
    """The same of one row."""
    if not snapshot.alive[slot]:
        return NO
    rules, rates = profile.alone
    for rule in rules:
        if not rule.allows(task, snapshot, slot):
            return NO
    points = 0.0
    for weight, rate in rates:
        points += weight * math.floor(rate.row(task, snapshot, slot))
    return points
