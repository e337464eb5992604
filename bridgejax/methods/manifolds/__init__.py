"""Given samples on a manifold: learn to draw more of them. From Python: each needs one of ``bj.manifolds``.

projected         diffuse in flat space, project: no heat kernel, one eigendecomposition a step on the groups
riemannian_score  reverse Brownian motion; exact likelihood by its flow
riemannian_flow   geodesics from the uniform law; the cheapest to train where the logarithm is, exact likelihood
manifold_bridge   a mixture of bridges from the uniform law
"""
