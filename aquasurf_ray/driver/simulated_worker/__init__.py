"""Workers that answer from a benchmark instead of training, and fail at configured rates.

>>> from aquasurf_ray.driver.simulated_worker import Failures, Simulation, simulated
>>> worker = simulated(Simulation(scale=60.0, trainings=Failures(crash=0.05, hang=0.01)))
>>> # search("digits", worker=worker, evaluations=40, workers=2)
"""

from aquasurf_ray.driver.simulated_worker.answers import Failures, Simulation
from aquasurf_ray.driver.simulated_worker.worker import AttemptRecords, SimulatedFault, SimulatedWorker, simulated

__all__ = ["AttemptRecords", "Failures", "SimulatedFault", "SimulatedWorker", "Simulation", "simulated"]
