#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# A published table, row by row: measures a method on a data set of the field with the settings that its authors published, by
# `gclip eval`.
# usage: scripts/reproduce.sh SET METHOD --data FOLDER --model MODEL [options of gclip eval, such as --device cuda --limit 20]
#   SET      voc20 voc21 context59 context60 coco-object coco-stuff cityscapes ade20k
#   METHOD   sclip clearclip naclip scclip pearl proxyclip gla (the last two: --helper-model too)
#   --data   the set's own folder, laid out as mmsegmentation wants it:
#            VOC2012, VOC2010 (Context): JPEGImages, SegmentationClass or SegmentationClassContext, ImageSets
#            COCO: images/val2017, annotations/val2017 (*_labelTrainIds.png; *_instanceTrainIds.png for coco-object)
#            Cityscapes: leftImg8bit/val, gtFine/val (*_labelTrainIds.png)   ADE20K: images/validation, annotations/validation
# Published numbers are of openai/clip-vit-base-patch16. GCLIP: the program to take (default: the one in PATH, or of target/release).
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
die() { echo "reproduce: $*" >&2; exit 2; }
case ${1:-} in '' | -h | --help) sed -n '3,14s/^# \{0,1\}//p' "$0"; [ "${1:-}" ] && exit 0; exit 2 ;; esac
set_=$1 method=${2:-}
[ -n "$method" ] || die "say which method (see --help)"
shift 2
data='' rest=()
while [ $# -gt 0 ]; do
  case $1 in
    --data) data=${2:?reproduce: --data needs a folder}; shift 2 ;;
    *) rest+=("$1"); shift ;;
  esac
done
[ -n "$data" ] || die "say where the pictures are: --data FOLDER (see --help)"
gclip=${GCLIP:-$(command -v gclip || echo "$here/../target/release/gclip")}
[ -x "$(command -v "$gclip")" ] || die "there is no gclip: build it (cargo build --release), or name it in GCLIP"

# The set: classes, pictures, labels, and how its labels count ---------------------------------------------------
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
classes=$work/classes.txt
names() { grep -v '^#' "$here/reproduce/$1.txt"; }
first_of() { # the first of these folders that is there
  for folder in "$@"; do [ ! -d "$data/$folder" ] || { echo "$data/$folder"; return; }; done
  die "there is no $data/$1: is --data the folder of $set_?"
}
set=()
case $set_ in
  voc20 | voc21)
    pictures=$(first_of JPEGImages)
    labels=$(first_of SegmentationClass)
    list=ImageSets/Segmentation/val.txt
    names voc21 >"$classes" ;;
  context59 | context60)
    pictures=$(first_of JPEGImages)
    labels=$(first_of SegmentationClassContext)
    list=ImageSets/SegmentationContext/val.txt
    names context60 >"$classes" ;;
  coco-object | coco-stuff)
    pictures=$(first_of images/val2017 images)
    annotations=$(first_of annotations/val2017 annotations)
    list=''
    names "$set_" >"$classes"
    # The raw label maps, and perhaps those of the other set, lie in the same folder.
    [ $set_ = coco-stuff ] && ending=_labelTrainIds || ending=_instanceTrainIds
    labels=$work/labels
    mkdir "$labels"
    annotations=$(realpath "$annotations")
    find "$annotations" -name "*$ending.png" -printf '%f\n' | while read -r file; do
      ln -s "$annotations/$file" "$labels/${file%$ending.png}.png"
    done
    [ -n "$(ls "$labels")" ] || die "$annotations has no *$ending.png: make them with the converters of mmsegmentation and SCLIP" ;;
  cityscapes)
    pictures=$(first_of leftImg8bit/val leftImg8bit)
    labels=$(first_of gtFine/val gtFine)
    list=''
    names cityscapes >"$classes"
    [ -n "$(find "$labels" -name '*_labelTrainIds.png' -print -quit)" ] ||
      die "$labels has no *_labelTrainIds.png: make them with cityscapesscripts' createTrainIdLabelImgs.py" ;;
  ade20k)
    pictures=$(first_of images/validation images)
    labels=$(first_of annotations/validation annotations)
    list=''
    names ade20k >"$classes" ;;
  *) die "there is no set $set_ (see --help)" ;;
esac
case $set_ in
  voc21 | context60 | coco-object) set+=(--background-label 0) ;;
  voc20 | context59) sed -i 1d "$classes"; set+=(--reduce-zero-label) ;;
  ade20k) set+=(--reduce-zero-label) ;;
esac
[ -z "$list" ] || { [ -f "$data/$list" ] || die "there is no $data/$list"; set+=(--list "$data/$list"); }

# The method: short side, windows, scale, thresholds, as in the configs of its authors ----------------------------
window=224 stride=112 scale=40 threshold=0 size=336 area=0 how=()
[ $set_ != cityscapes ] || size=560
case $method in
  sclip)
    case $set_ in
      coco-stuff) size=448 ;;
      context60 | coco-object) threshold=0.1 scale=50 ;;
      voc21) threshold=0.1 scale=65 area=0.1 ;;
    esac ;;
  clearclip)
    window=448 stride=224 scale=50 size=448
    case $set_ in
      cityscapes) window=224 ;;
      coco-object) threshold=0.4 ;;
      context60) threshold=0.15 ;;
      voc21) threshold=0.5 ;;
    esac
    # Its lists have one name a class, and "background" for what is none.
    sed -i 's/,.*//' "$classes"
    case $set_ in
      voc20) sed -i 's/^television monitor$/tvmonitor/' "$classes" ;;
      voc21 | coco-object) sed -i -e '1s/.*/background/' -e 's/^television monitor$/tvmonitor/' "$classes" ;;
    esac ;;
  naclip | pearl)
    case $set_ in
      coco-object | context60) threshold=0.1 ;;
      voc20) window=0 ;;
      voc21) window=0 threshold=0.1 ;;
    esac
    [ $method != pearl ] || how=(--refine tlp) ;;
  scclip)
    case $set_ in
      coco-object) threshold=0.35 scale=55 ;;
      context60) threshold=0.15 ;;
      voc21) threshold=0.15 scale=50 area=0.1 ;;
    esac ;;
  proxyclip)
    window=336 stride=112
    case $set_ in
      ade20k) size=448 ;;
      cityscapes) size=448 window=224 ;;
      coco-object) threshold=0.25 ;;
      context60) threshold=0.15 ;;
      voc21) threshold=0.2 ;;
    esac ;;
  gla)
    window=336 stride=112
    case $set_ in
      cityscapes) window=224 ;;
      coco-object | context60 | voc21) threshold=0.1 ;;
    esac
    how=(--method-options gla=on) ;;
  *) die "no settings are known for the method $method (see --help)" ;;
esac
[ $method != gla ] || method=proxyclip
[ $window = 0 ] || how+=(--window $window --stride $stride)
echo "reproduce: $method on $set_: short side $size, windows $window/$stride, scale $scale, threshold $threshold"
"$gclip" eval --images "$pictures" --labels "$labels" --prompts-file "$classes" "${set[@]}" --method "$method" --positions scale \
  --precision f32 --size $size --logit-scale $scale --threshold $threshold --min-area $area "${how[@]}" "${rest[@]}"
