"""Gradient descent on latents from a ReStyle answer: closer pictures, a whole batch at once.

What takes latent optimisation hundreds of steps of Adam (`encoders.optimization`), L-BFGS does here in tens:
in coordinates in which the generator's curvature is about even (`curvature`), with a history for each image
(`descent`), from the best step of the residual loop.
"""

from encoders.refinement.refiner import Objectives, Refiner

__all__ = ["Objectives", "Refiner"]
