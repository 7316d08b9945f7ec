"""Features of activation functions, distances, embedding, regressors and suggestions: arrays in, arrays out."""
