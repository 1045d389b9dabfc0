"""Which leaf of a port's tree holds which of torch's tensors."""
