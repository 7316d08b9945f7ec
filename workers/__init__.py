"""The code that runs on workers: Fisher spectra, trainings with their checkpoints, and the Ray actors around both."""
