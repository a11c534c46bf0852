"""One photo, or a few, in this process and without Ray: the notebook's door is `inverter.Inverter`."""
