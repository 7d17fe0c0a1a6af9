"""Figures of a model, measured on clean data: likelihoods, samples, distances, records."""
