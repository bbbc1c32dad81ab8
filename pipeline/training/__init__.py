"""Learning from annotated images: what makes ordinary weights, which any run then takes."""
