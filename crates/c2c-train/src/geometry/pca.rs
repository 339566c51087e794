//! The two directions in which points vary most.

/// Turns of the power iteration; it ends before once the direction stands.
const TURNS: usize = 500;
/// A direction stands when a turn moves it by less.
const STANDS: f64 = 1e-9;

/// Points seen along their first two principal components.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Plane {
    /// Of each point, around the mean of all.
    pub(super) points: Vec<[f64; 2]>,
    /// The shares of all variance that the two components have.
    pub(super) shares: [f64; 2],
}

/// Principal components of points of one width, by power iteration on the covariance, which is never formed.
///
/// The same points give the same plane: the iteration starts at the point farthest out, and the largest entry of a
/// direction is made positive.
pub(super) fn plane(points: &[Vec<f64>]) -> Plane {
    let width = points.first().map_or(0, Vec::len);
    let mut mean = vec![0.0; width];
    for point in points {
        add(&mut mean, point, 1.0 / points.len() as f64);
    }
    let centred: Vec<Vec<f64>> = points
        .iter()
        .map(|point| {
            let mut point = point.clone();
            add(&mut point, &mean, -1.0);
            point
        })
        .collect();
    let total: f64 = centred.iter().map(|point| dot(point, point)).sum();
    let mut plane = Plane { points: vec![[0.0; 2]; points.len()], shares: [0.0; 2] };
    let mut found: Vec<Vec<f64>> = Vec::new();
    for component in 0..2 {
        let Some(direction) = direction(&centred, &found, total) else { break };
        let mut along = 0.0;
        for (place, point) in plane.points.iter_mut().zip(&centred) {
            place[component] = dot(point, &direction);
            along += place[component] * place[component];
        }
        plane.shares[component] = along / total;
        found.push(direction);
    }
    plane
}

/// The direction of most variance that is orthogonal to those found; `None` if there is no variance left.
fn direction(points: &[Vec<f64>], found: &[Vec<f64>], total: f64) -> Option<Vec<f64>> {
    let free = |mut vector: Vec<f64>| {
        for other in found {
            let along = dot(&vector, other);
            add(&mut vector, other, -along);
        }
        vector
    };
    let rest = points.iter().map(|point| free(point.clone()));
    let start = rest.max_by(|a, b| dot(a, a).total_cmp(&dot(b, b)))?;
    // What rounding leaves of points that lie in the directions found.
    if dot(&start, &start) <= 1e-20 * total {
        return None;
    }
    let mut now = unit(start)?;
    for _ in 0..TURNS {
        let mut next = vec![0.0; now.len()];
        for point in points {
            add(&mut next, point, dot(point, &now));
        }
        let next = unit(free(next))?;
        let moved = 1.0 - dot(&next, &now);
        now = next;
        if moved < STANDS {
            break;
        }
    }
    let largest = now.iter().copied().max_by(|a, b| a.abs().total_cmp(&b.abs()))?;
    Some(now.into_iter().map(|x| x * largest.signum()).collect())
}

fn unit(vector: Vec<f64>) -> Option<Vec<f64>> {
    let length = dot(&vector, &vector).sqrt();
    (length > 0.0 && length.is_finite()).then(|| vector.into_iter().map(|x| x / length).collect())
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn add(to: &mut [f64], vector: &[f64], times: f64) {
    to.iter_mut().zip(vector).for_each(|(to, x)| *to += times * x);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_axes_of_a_rotated_box_are_found() {
        // A grid of 5 by 3 by 2, long along the first of three orthogonal directions, shifted.
        let axes =
            [[2.0 / 3.0, 2.0 / 3.0, 1.0 / 3.0], [-2.0 / 3.0, 1.0 / 3.0, 2.0 / 3.0], [1.0 / 3.0, -2.0 / 3.0, 2.0 / 3.0]];
        let mut points = Vec::new();
        for (a, b, c) in
            (0..30).map(|i| (f64::from(i % 5 - 2) * 4.0, f64::from(i / 5 % 3 - 1), f64::from(i / 15) * 0.2))
        {
            let at = |k: usize| 7.0 + a * axes[0][k] + b * axes[1][k] + c * axes[2][k];
            points.push(vec![at(0), at(1), at(2)]);
        }
        let plane = plane(&points);
        // Variances: 16 * 2, 2 / 3, 0.01.
        let total = 32.0 + 2.0 / 3.0 + 0.01;
        assert!((plane.shares[0] - 32.0 / total).abs() < 1e-6, "{:?}", plane.shares);
        assert!((plane.shares[1] - 2.0 / 3.0 / total).abs() < 1e-6, "{:?}", plane.shares);
        for (i, [x, y]) in plane.points.iter().enumerate() {
            let (a, b) = ((i % 5) as f64 - 2.0, (i / 5 % 3) as f64 - 1.0);
            // The largest entry of the second axis is negative in it or its opposite: only the sign is free.
            assert!((x - 4.0 * a).abs() < 1e-3 && (y.abs() - b.abs()).abs() < 1e-3, "{i}: {x} {y}");
        }
    }

    #[test]
    fn points_on_a_line_and_equal_points_have_no_second_axis() {
        let line: Vec<Vec<f64>> = (0..4).map(|i| vec![f64::from(i), 2.0 * f64::from(i)]).collect();
        let plane_of_line = plane(&line);
        assert!((plane_of_line.shares[0] - 1.0).abs() < 1e-12 && plane_of_line.shares[1] < 1e-12);
        let same = plane(&[vec![1.0, 2.0], vec![1.0, 2.0]]);
        assert_eq!(same.points, [[0.0; 2]; 2]);
        assert!(plane(&[]).points.is_empty());
    }
}
