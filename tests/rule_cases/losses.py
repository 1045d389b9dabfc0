"""Of `losses`."""

import numpy as np

from tests.rule_cases import Fixed, array, call, fixed, floats, ints, units, whole

X, Y = floats(3, 4), floats(3, 4, seed=1)
LOGITS, CLASSES = floats(4, 5), np.array([0, 4, -100, 2])
WEIGHTS = fixed(units(5))
IMAGES, PIXELS = floats(2, 5, 3, 2), ints(2, 3, 2, low=0, high=5)
PROBS = units(4, 5, seed=3) / units(4, 5, seed=3).sum(1, keepdims=True)
SIGNS = np.where(units(6) < 0.5, -1, 1).astype(np.float64)
PAIRED = [call(X, Y, reduction) for reduction in (0, 1, 2)]

CASES = {
    "mse_loss": PAIRED,
    "l1_loss": [*PAIRED, call(whole(9), whole(9, seed=1))],
    "smooth_l1_loss": [
        *PAIRED,
        call(whole(9), whole(9, seed=1), 2, 2.0),
        call(X, Y, 1, 0.0),
    ],
    "huber_loss": [*PAIRED, call(whole(9), whole(9, seed=1), 2, 2.0), call(X, Y, 0, 0.5)],
    "binary_cross_entropy": [
        *(call(units(3, 4), units(3, 4, seed=1), None, r) for r in (0, 1, 2)),
        call(units(3, 4), fixed(units(3, 4, seed=1)), fixed(units(4)), 1),
    ],
    "binary_cross_entropy_with_logits": [
        *(call(X, units(3, 4), None, None, r) for r in (0, 1, 2)),
        call(X, fixed(units(3, 4)), fixed(units(4)), fixed(units(4, seed=1))),
    ],
    "cross_entropy_loss": [
        call(LOGITS, np.array([0, 4, 1, 2]), WEIGHTS, 1, 4, 0.2),
        *(call(LOGITS, CLASSES, None, r) for r in (1, 0, 2)),
        call(LOGITS, CLASSES, WEIGHTS, 2),
        call(LOGITS, Fixed(PROBS), None, 1, -100, 0.1),
        call(LOGITS, Fixed(PROBS), WEIGHTS),
        call(IMAGES, PIXELS, WEIGHTS, 1, 2),
        call(floats(5), np.array(3)),
    ],
    "nll_loss_nd": [call(LOGITS, CLASSES), call(IMAGES, PIXELS, WEIGHTS, 2, 1)],
    "nll_loss": call(LOGITS, CLASSES, WEIGHTS),
    "nll_loss2d": call(IMAGES, PIXELS, WEIGHTS, 0, 2),
    "kl_div": [
        *(call(X, units(3, 4), r) for r in (0, 1, 2)),
        call(X, Y, 1, log_target=True),
        call(floats(3), fixed([0.0, 0.5, 1.0]), 2),
    ],
    "soft_margin_loss": [call(floats(6), Fixed(SIGNS)), call(floats(6), Fixed(SIGNS), 0)],
    "poisson_nll_loss": [
        call(X, fixed(whole(3, 4, low=0, high=5)), True, False, 1e-8, 1),
        call(units(3, 4), fixed(whole(3, 4, low=0, high=5)), False, True, 1e-8, 0),
    ],
    "margin_ranking_loss": [
        call(whole(6), whole(6, seed=1), Fixed(SIGNS), 0.0, 0),
        call(floats(6), floats(6, seed=1), Fixed(SIGNS), 0.3),
    ],
    "hinge_embedding_loss": [
        call(floats(6), Fixed(SIGNS), 0.5),
        call(whole(6), Fixed(SIGNS), 1.0, 0),
    ],
    "cosine_similarity": [
        call(X, Y),
        call(X, floats(4), -1),
        call(array([0.0, 0.0], [1.0, 2.0]), floats(2, 2)),
    ],
    "cosine_embedding_loss": [call(floats(6, 3), floats(6, 3, seed=1), Fixed(SIGNS), 0.1)],
    "pairwise_distance": [call(X, Y), call(X, Y, 1.0, 1e-6, True)],
    "triplet_margin_loss": [
        call(X, Y, floats(3, 4, seed=2)),
        call(X, Y, floats(3, 4, seed=2), 0.5, 2, 1e-6, True, 0),
    ],
}
