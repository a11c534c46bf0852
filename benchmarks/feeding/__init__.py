"""What a photo costs the CPUs, stage by stage, and how the copy that is searched was chosen."""
