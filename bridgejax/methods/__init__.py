"""Systems: one file each, all of them a Method that learns a Process."""

from bridgejax.methods.autoencoder import Codec as Codec
from bridgejax.methods.autoencoder import codec as codec
from bridgejax.methods.autoencoder import pca as pca
from bridgejax.methods.autoencoder import vae as vae
from bridgejax.methods.bdbm import bdbm as bdbm
from bridgejax.methods.bridge_matching import bridge_matching as bridge_matching
from bridgejax.methods.conditioned import conditioned as conditioned
from bridgejax.methods.constrained import constrained as constrained
from bridgejax.methods.constrained import landing as landing
from bridgejax.methods.ddbm import ddbm as ddbm
from bridgejax.methods.diffusion import diffusion as diffusion
from bridgejax.methods.diffusion import edm as edm
from bridgejax.methods.dsb import dsb as dsb
from bridgejax.methods.dsb import simplified_dsb as simplified_dsb
from bridgejax.methods.dsbm import dsbm as dsbm
from bridgejax.methods.i2sb import i2sb as i2sb
from bridgejax.methods.latent_sb import latent_sb as latent_sb
from bridgejax.methods.lightsb import lightsb as lightsb
from bridgejax.methods.lightsb import lightsb_m as lightsb_m
from bridgejax.methods.paired import augmented_bridge as augmented_bridge
from bridgejax.methods.samplers import dds as dds
from bridgejax.methods.samplers import dis as dis
from bridgejax.methods.samplers import pis as pis
from bridgejax.methods.sf2m import sf2m as sf2m
