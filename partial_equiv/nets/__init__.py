"""Networks of group convolutions, and `build`, which makes one from plain choices."""

from partial_equiv.nets.augerino import Augerino, element_grid
from partial_equiv.nets.autoencoder import Autoencoder, CanonicalDecoder, Reconstruction
from partial_equiv.nets.budget import memory_budget
from partial_equiv.nets.build import NETS, PIXEL_NETS, PLAIN_NETS, build
from partial_equiv.nets.ckresnet import CKResNet, ResidualBlock
from partial_equiv.nets.encoder import Code, GroupConvEncoder, InvariantEncoder, framed
from partial_equiv.nets.gcnn import GCNN, ConvBlock
from partial_equiv.nets.gconvnet import GConvNet
from partial_equiv.nets.gresnet import GResNet, PreActivationBlock
from partial_equiv.nets.kit import ConvChoices, ConvKit, GroupChoices, KernelChoices, make_kit
from partial_equiv.nets.liftingnet import LiftingNet
from partial_equiv.nets.predictor import Predictor
from partial_equiv.nets.predictors import PREDICTORS, ParamRegressor, make_predictor
from partial_equiv.nets.projector import make_projector, parse_widths, scaled
from partial_equiv.nets.split_ckresnet import TurningBackbone, TurningReadout
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
    "ConvBlock",
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
    "PreActivationBlock",
    "Prediction",
    "Predictor",
    "Reading",
    "Reconstruction",
    "ResidualBlock",
    "SplitEncoder",
    "SymmetryNet",
    "TurningBackbone",
    "TurningReadout",
    "build",
    "element_grid",
    "framed",
    "learned_subsets",
    "make_kit",
    "make_predictor",
    "make_projector",
    "memory_budget",
    "parse_widths",
    "scaled",
    "structure_errors",
]
