"""What each path of the Resource Manager answers, by the thing it names."""
