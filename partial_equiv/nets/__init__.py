"""Networks of group convolutions, and `build`, which makes one from plain choices."""

from partial_equiv.nets.augerino import Augerino
from partial_equiv.nets.autoencoder import Autoencoder, CanonicalDecoder, Reconstruction
from partial_equiv.nets.build import NETS, PIXEL_NETS, PLAIN_NETS, build
from partial_equiv.nets.ckresnet import CKResNet
from partial_equiv.nets.encoder import Code, GroupConvEncoder, InvariantEncoder
from partial_equiv.nets.gcnn import GCNN
from partial_equiv.nets.gconvnet import GConvNet
from partial_equiv.nets.gresnet import GResNet
from partial_equiv.nets.kit import ConvChoices, ConvKit, GroupChoices, KernelChoices, make_kit
from partial_equiv.nets.liftingnet import LiftingNet
from partial_equiv.nets.predictor import Predictor
from partial_equiv.nets.predictors import PREDICTORS, ParamRegressor, make_predictor
from partial_equiv.nets.projector import make_projector, parse_widths, scaled
from partial_equiv.nets.split_encoder import Part, SplitEncoder
from partial_equiv.nets.structure import structure_errors
from partial_equiv.nets.subsets import LayerSubset, learned_subsets
from partial_equiv.nets.symmetry_net import NORMAL, UNIFORM, LevelHead, Prediction, Reading, SymmetryNet

__all__ = [
    "GCNN",
    "NETS",
    "NORMAL",
    "PIXEL_NETS",
    "PLAIN_NETS",
    "PREDICTORS",
    "UNIFORM",
    "Augerino",
    "Autoencoder",
    "CKResNet",
    "CanonicalDecoder",
    "Code",
    "ConvChoices",
    "ConvKit",
    "GConvNet",
    "GResNet",
    "GroupChoices",
    "GroupConvEncoder",
    "InvariantEncoder",
    "KernelChoices",
    "LayerSubset",
    "LevelHead",
    "LiftingNet",
    "ParamRegressor",
    "Part",
    "Prediction",
    "Predictor",
    "Reading",
    "Reconstruction",
    "SplitEncoder",
    "SymmetryNet",
    "build",
    "learned_subsets",
    "make_kit",
    "make_predictor",
    "make_projector",
    "parse_widths",
    "scaled",
    "structure_errors",
]
