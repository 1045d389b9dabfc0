"""The lecture in torch, and the tools that hold a torch run and a jaxnet run side by side."""
