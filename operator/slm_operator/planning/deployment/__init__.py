"""Plans for one SLMDeployment."""
