// SPDX-License-Identifier: MIT OR Apache-2.0
use super::*;

fn layouts() -> Vec<PlaneLayout> {
    let layout = |pixel_stride, components: &[(usize, usize)]| PlaneLayout {
        memory: 0,
        step: [1, 1],
        pixel_stride,
        components: components.to_vec(),
    };
    vec![
        layout(1, &[(0, 0)]),
        layout(2, &[(0, 1), (1, 2)]),
        layout(2, &[(0, 0)]),
        layout(3, &[(2, 0), (1, 1), (0, 2)]),
        layout(4, &[(0, 0), (1, 1), (2, 2)]),
        layout(4, &[(1, 1), (3, 2)]),
        layout(4, &[(2, 0), (1, 1), (0, 2), (3, 3)]),
    ]
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 37 + i / 7) as u8).collect()
}

/// Byte by byte, in floating point.
fn reference(
    data: &mut [u8],
    layout: &PlaneLayout,
    stride: usize,
    y: usize,
    x: usize,
    colour: [u8; 4],
    alpha: f64,
) {
    for (i, &(offset, _)) in layout.components.iter().enumerate() {
        let byte = &mut data[y * stride + x * layout.pixel_stride + offset];
        *byte = (*byte as f64 * (1.0 - alpha) + colour[i] as f64 * alpha).round() as u8;
    }
}

fn assert_close(ours: &[u8], reference: &[u8], touched: impl Fn(usize) -> bool, what: &str) {
    for (i, (&ours, &reference)) in ours.iter().zip(reference).enumerate() {
        let allowed = touched(i) as i32;
        assert!(
            (ours as i32 - reference as i32).abs() <= allowed,
            "{what}: byte {i}: {ours} for {reference}"
        );
    }
}

#[test]
fn runs_equal_the_scalar_reference_and_touch_nothing_else() {
    let colour = [250, 3, 128, 255];
    for layout in layouts() {
        for alpha in [0u16, 1, 77, 128, 255, 256] {
            for x in [0..0, 0..1, 3..40, 0..67, 66..67] {
                let (width, height) = (67, 3);
                let stride = width * layout.pixel_stride + 5;
                let before = pattern(stride * height);
                let (mut ours, mut expected) = (before.clone(), before.clone());
                let inks = vec![Inks::default(), Inks { body: Ink::new(colour, alpha), ..Inks::default() }];
                let mut plane = Plane { data: &mut ours, stride, width, height, layout: &layout };
                assert!(plane.is_whole());
                let mut painter = InkPainter::new(&mut plane, &inks, 0.0);
                painter.row(1);
                painter.run(x.clone(), 1);
                for x in x.clone() {
                    reference(&mut expected, &layout, stride, 1, x, colour, alpha as f64 / 256.0);
                }
                let changed = before.clone();
                let what = format!("{layout:?} alpha {alpha} {x:?}");
                assert_close(&ours, &expected, |i| expected[i] != changed[i] || ours[i] != changed[i], &what);
                // Bytes of other samples and other components are equal, not only close.
                for (i, (new, old)) in ours.iter().zip(&before).enumerate() {
                    let (row, at) = (i / stride, i % stride);
                    let inside = row == 1
                        && x.contains(&(at / layout.pixel_stride))
                        && layout.components.iter().any(|component| component.0 == at % layout.pixel_stride);
                    assert!(inside && alpha > 0 || new == old, "{what}: byte {i}");
                }
            }
        }
    }
}

#[test]
fn edges_mix_two_classes_and_contour_with_body() {
    let layout = layouts().remove(4);
    let (body, contour, other) = ([200, 0, 0, 0], [0, 0, 100, 0], [0, 240, 0, 0]);
    let inks = vec![
        Inks::default(),
        Inks { body: Ink::new(body, 128), contour: Ink::new(contour, 256) },
        Inks { body: Ink::new(other, 256), contour: Ink::new(other, 256) },
    ];
    let paint = |width: f32, edge: Edge| {
        let mut data = vec![80u8; 8];
        let mut plane = Plane { data: &mut data, stride: 8, width: 2, height: 1, layout: &layout };
        let mut painter = InkPainter::new(&mut plane, &inks, width);
        painter.row(0);
        painter.edge(1, edge);
        assert_eq!(data[..4], [80; 4]);
        assert_eq!(data[7], 80, "the fourth byte is no component");
        [data[4], data[5], data[6]]
    };
    let edge = |second, mix, pixels: f32| Edge { top: 1, second, mix, depth: (pixels * 256.0) as i32 };
    assert_eq!(paint(0.0, edge(0, 256, 0.5)), [140, 40, 40], "body over the picture");
    assert_eq!(paint(0.0, edge(0, 128, 0.0)), [110, 60, 60], "half of it");
    assert_eq!(paint(2.0, edge(0, 256, 1.0)), [0, 0, 100], "contour");
    assert_eq!(paint(2.0, edge(0, 256, 3.0)), [140, 40, 40], "further in");
    assert_eq!(paint(2.0, edge(0, 256, 2.0)), [70, 20, 70], "half way from contour to body");
    assert_eq!(paint(0.0, edge(2, 128, 0.0)), [70, 140, 20], "two classes side by side");
}

#[test]
fn a_plane_that_its_memory_does_not_hold_is_not_whole() {
    let layout = layouts().remove(3);
    let whole = |len, stride, width, height| {
        Plane { data: &mut vec![0; len], stride, width, height, layout: &layout }.is_whole()
    };
    assert!(whole(30, 15, 5, 2) && !whole(29, 15, 5, 2) && !whole(30, 14, 5, 2) && !whole(30, 15, 0, 2));
}
