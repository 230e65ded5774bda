use proptest::prelude::*;

use super::*;

fn hlc(wall_ms: u64, counter: u64) -> Hlc {
    Hlc::from_packed((wall_ms << COUNTER_BITS) + counter)
}

#[test]
fn next_follows_the_wall_clock_and_never_goes_back() {
    for (case, previous, now_ms, expected) in [
        ("clock moved on", hlc(10, 3), 11, hlc(11, 0)),
        ("same millisecond", hlc(10, 3), 10, hlc(10, 4)),
        ("clock stepped back", hlc(10, 3), 2, hlc(10, 4)),
        ("full counter carries", hlc(10, 0xFFFF), 10, hlc(11, 0)),
        ("first time", Hlc::ZERO, 7, hlc(7, 0)),
        (
            "wall clock beyond 48 bits",
            hlc(10, 0),
            u64::MAX,
            hlc(MAX_WALL_MS, 0),
        ),
    ] {
        assert_eq!(previous.next(now_ms), expected, "{case}");
    }
}

#[test]
fn observe_refuses_a_time_more_than_five_minutes_ahead() {
    let now_ms = 1_000_000;
    let limit = now_ms + MAX_CLOCK_AHEAD_MS;
    let local = hlc(now_ms, 0);
    for (case, remote, is_accepted) in [
        ("past", hlc(1, 0), true),
        ("at the bound", hlc(limit, 0xFFFF), true),
        ("past the bound", hlc(limit + 1, 0), false),
        ("end of time", Hlc::from_packed(u64::MAX), false),
    ] {
        let observed = local.observe(remote, now_ms);
        assert_eq!(observed.is_ok(), is_accepted, "{case}");
        if let Err(error) = observed {
            assert_eq!(error, ClockOutOfBounds { remote, now_ms }, "{case}");
        }
    }
}

proptest! {
    #[test]
    fn time_is_monotonic_whatever_the_wall_clock_does(walls in prop::collection::vec(0_u64..50, 1..30)) {
        let mut clock = Hlc::ZERO;
        for now_ms in walls {
            let next = clock.next(now_ms);
            prop_assert!(next > clock && next.wall_ms() >= now_ms);
            clock = next;
        }
    }

    #[test]
    fn observed_time_is_later_than_both(
        local in 0_u64..1 << 40,
        remote in 0_u64..1 << 40,
        now_ms in 0_u64..1 << 24,
    ) {
        let (local, remote) = (Hlc::from_packed(local), Hlc::from_packed(remote));
        if let Ok(observed) = local.observe(remote, now_ms) {
            prop_assert!(observed > local && observed > remote);
        }
    }

    #[test]
    fn packed_form_keeps_the_parts(wall_ms in 0..MAX_WALL_MS, counter: u16) {
        let time = hlc(wall_ms, counter.into());
        prop_assert_eq!((time.wall_ms(), time.counter()), (wall_ms, counter));
        prop_assert_eq!(Hlc::from_packed(time.packed()), time);
    }
}
