"""What runs beside a GPU: Fisher spectra, trainings with their checkpoints, and the Ray shell around both."""
