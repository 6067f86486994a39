"""The way to a Snapdragon board: a library for its DSP, a launcher, transports, samples."""
