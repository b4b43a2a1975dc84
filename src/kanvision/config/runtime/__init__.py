"""Run folder, OmegaConf resolvers and launchers."""
