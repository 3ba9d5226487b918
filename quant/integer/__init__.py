"""Integer-only inference: what a device without floating point computes, as a reference.

Convolutions and linear layers accumulate in int32; every change of scale is a multiplication by
an integer and a shift (HAWQ-V3, arXiv 2011.10680); GELU, softmax and layer norm are those of
I-BERT (arXiv 2101.01321). Nothing between the input codes and the logits is a float.
"""
