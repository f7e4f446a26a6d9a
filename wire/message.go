package wire

// message appends the fields of m.
func (e *encoder) message(m Message) {
	switch m := m.(type) {
	case *Hello:
		m.append(e)
	case *Lock:
		m.append(e)
	case *Unlock:
		m.append(e)
	case *Cancel:
		m.append(e)
	case *Where:
		m.append(e)
	case *List:
		m.append(e)
	case *Break:
		m.append(e)
	case *Explain:
		m.append(e)
	case *Resume:
		m.append(e)
	case *Welcome:
		m.append(e)
	case *Granted:
		m.append(e)
	case *Queued:
		m.append(e)
	case *Released:
		m.append(e)
	case *Error:
		m.append(e)
	case *Rows:
		m.append(e)
	case *StatusReply:
		m.append(e)
	case *RulesReply:
		m.append(e)
	case *Explained:
		m.append(e)
	case *Reloaded:
		m.append(e)
	case *Lost:
		m.append(e)
	case *Resumed:
		m.append(e)
	case *GuardReply:
		m.append(e)
	case *Altered:
		m.append(e)
	case *Quiets:
		m.append(e)
	case *Watch, *Status, *Reload, *Rules, *Guard, *Done, *Changed: // no fields
	default:
		e.fail("message", ErrType)
	}
}

// message reads the fields of a message of type t, which is known.
func (d *decoder) message(t Type) Message {
	switch t {
	case TypeHello:
		return parseHello(d)
	case TypeLock:
		return parseLock(d)
	case TypeUnlock:
		return parseUnlock(d)
	case TypeCancel:
		return parseCancel(d)
	case TypeWhere:
		return parseWhere(d)
	case TypeList:
		return parseList(d)
	case TypeWatch:
		return &Watch{}
	case TypeStatus:
		return &Status{}
	case TypeBreak:
		return parseBreak(d)
	case TypeReload:
		return &Reload{}
	case TypeRules:
		return &Rules{}
	case TypeExplain:
		return parseExplain(d)
	case TypeResume:
		return parseResume(d)
	case TypeGuard:
		return &Guard{}
	case TypeWelcome:
		return parseWelcome(d)
	case TypeGranted:
		return parseGranted(d)
	case TypeQueued:
		return parseQueued(d)
	case TypeReleased:
		return parseReleased(d)
	case TypeDone:
		return &Done{}
	case TypeError:
		return parseError(d)
	case TypeRows:
		return parseRows(d)
	case TypeChanged:
		return &Changed{}
	case TypeStatusReply:
		return parseStatusReply(d)
	case TypeRulesReply:
		return parseRulesReply(d)
	case TypeExplained:
		return parseExplained(d)
	case TypeReloaded:
		return parseReloaded(d)
	case TypeLost:
		return parseLost(d)
	case TypeResumed:
		return parseResumed(d)
	case TypeGuardReply:
		return parseGuardReply(d)
	case TypeAltered:
		return parseAltered(d)
	case TypeQuiets:
		return parseQuiets(d)
	}
	d.fail("type", ErrType)
	return nil
}
