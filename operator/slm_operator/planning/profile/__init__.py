"""Plans for one SLMProfile and its Job."""
